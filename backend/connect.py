"""``tiebreak connect``: everything that an existing Label Studio project needs, safe to repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backend.backend_address import NAME_MEND, refused_name
from backend.errors import LabelStudioError, SettingsError
from backend.hints import add_hint
from backend.label_config import LabelConfig, parse_label_config
from backend.labelstudio import LabelStudio, Project
from backend.projects import register_project
from backend.push import SAMPLING
from backend.queue_settings import queue_warnings
from backend.secrets import SECRET_HEADER, log_in, webhook_secret
from backend.settings import Settings
from backend.store import Store
from model.plurals import counted

BACKEND_TITLE = "Tiebreak"
QUEUE_TITLE = "Tiebreak queue"
BUTTON = "Label All Tasks"
"""Label Studio's button that honours the order and what other people have on their screens."""
NEED_LABELS_ONLY = {
    "filter": "filter:tasks:total_annotations",
    "operator": "equal",
    "type": "Number",
    "value": 0,
}


@dataclass(frozen=True)
class ConnectReport:
    """What a connected project uses, which button to press at ``label_url``, and what there is in
    its settings that breaks the queue's order."""

    project: int
    title: str
    backend_url: str
    user: str
    backend_id: int
    webhook_id: int
    queue_tab: int
    controls: list[str]
    left_alone: list[str]
    label_url: str
    button: str
    warnings: list[str]


def connect_project(
    settings: Settings,
    label_studio: LabelStudio,
    project_id: int,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> ConnectReport:
    """Connect a project: backend with its log-in, webhook with the secret header, queue tab and
    sampling.

    Raises :class:`SettingsError` when Label Studio takes no webhook to the backend's address,
    :class:`LabelConfigError` when there is nothing to learn, and :class:`LabelStudioError`
    or its kin with what an administrator can do. What was done before an error stays; connecting
    again goes on from there.
    """
    if reason := refused_name(settings.backend_url):
        raise SettingsError(reason, mend=NAME_MEND)
    project = label_studio.project(project_id)
    config = parse_label_config(project.label_config)
    for line in _describe(config):
        say(line)
    store = Store(settings.database_address)
    try:
        store.migrate()
        report = _connect(settings, label_studio, project, config, say)
        # Not earlier: a project that Label Studio refuses to connect is left as it is.
        register_project(store, project_id, title=project.title, label_config=project.label_config)
        add_hint(store, project_id, "CONNECTED", None, train=False)
    finally:
        store.close()
    return report


def _connect(
    settings: Settings,
    label_studio: LabelStudio,
    project: Project,
    config: LabelConfig,
    say: Callable[[str], None],
) -> ConnectReport:
    url = settings.backend_url
    user, password = log_in(settings)
    backend = label_studio.save_backend(project.id, url, BACKEND_TITLE, (user, password))
    if backend.error_message:
        raise LabelStudioError(
            f"Label Studio saved the backend {url} but says: {backend.error_message}",
            mend="Look into the backend's log, then connect again.",
        )
    say(f"backend {url} is connected; Label Studio logs in to it as {user}")
    secret = {SECRET_HEADER: webhook_secret(settings)}
    hook = label_studio.save_webhook(project.id, f"{url}/webhook", secret)
    say("webhook is in place, with its secret")
    tab = label_studio.save_view(project.id, QUEUE_TITLE, filters=[NEED_LABELS_ONLY])
    say(f"tab “{QUEUE_TITLE}” shows the queue in the Data Manager")
    label_studio.update_project(project.id, sampling=SAMPLING, show_collab_predictions=True)
    say(f"“{BUTTON}” follows the queue, and gives each person an image of their own")
    people = settings.label_studio_public_url or label_studio.url
    return ConnectReport(
        project=project.id,
        title=project.title,
        backend_url=url,
        user=user,
        backend_id=backend.id,
        webhook_id=hook.id,
        queue_tab=tab.id,
        controls=[control.name for control in config.controls],
        left_alone=list(config.ignored),
        label_url=f"{people}/projects/{project.id}/data?tab={tab.id}",
        button=BUTTON,
        warnings=queue_warnings(project),
    )


def _describe(config: LabelConfig) -> list[str]:
    lines = [
        f"learns “{control.name}”: {counted(len(control.classes), 'class')}, "
        f"{'any number of them' if control.multiple else 'one'} per image"
        for control in config.controls
    ]
    return lines + [f"left alone: {reason}" for reason in config.ignored]
