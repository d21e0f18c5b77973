"""What ``--fix`` does. Each is safe to repeat, and touches only what is Tiebreak's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.connect import connect_project
from backend.doctor.backends import dead_backends, own_and_others
from backend.doctor.examination import Examination
from backend.doctor.findings import Finding, Fix, Skipped
from backend.doctor.machine import is_open
from backend.doctor.webhooks import orphans
from backend.labelstudio import LabelStudio
from backend.log_secrets import scrubbed
from backend.push import SAMPLING
from backend.secrets import FILES
from backend.settings import Settings
from backend.store import Store
from model.errors import TiebreakError

Say = Callable[[str], None]
Mender = Callable[[Examination], list[str]]


def fix(
    settings: Settings, client: LabelStudio, findings: Sequence[Finding], say: Say
) -> list[str]:
    """Mend what the findings name, each once; sentences of what was done or could not be."""
    done = list[str]()
    for name, mend in MENDERS.items():
        projects = dict.fromkeys(f.project for f in findings if f.fix == name)
        for number in projects:
            say(name if number is None else f"project {number}: {name}")
            exam = Examination(settings, client, number)
            where = "" if number is None else f"Project {number}: "
            try:
                done += [f"{where}{sentence}" for sentence in mend(exam)]
            except (TiebreakError, OSError, Skipped) as error:
                mend_by_hand = getattr(error, "mend", "")
                said = f"{getattr(error, 'message', error)} {mend_by_hand}".strip()
                done.append(f"{where}{name} could not be mended: {said}")
            finally:
                exam.close()
    return [scrubbed(sentence) for sentence in done]


def _modes(exam: Examination) -> list[str]:
    done = []
    for path in map(exam.secret_file, FILES):
        if path.exists() and is_open(path):
            path.chmod(0o600)
            done.append(f"{path.resolve()} can be read by its owner only.")
    return done


def _database(exam: Examination) -> list[str]:
    store = Store(exam.settings.database_address)
    try:
        store.migrate()
    finally:
        store.close()
    return ["The tables were brought to the newest form."]


def _weights(exam: Examination) -> list[str]:
    from model.backbones import BACKBONES
    from model.weights import find_weights

    settings = exam.settings
    path = find_weights(
        BACKBONES[settings.backbone].pretrained,
        weights_dir=settings.weights_dir,
        cache_dir=settings.weights_cache,
    )
    return [f"The weights were fetched into {path}."]


def _orphans(exam: Examination) -> list[str]:
    """Webhooks first: which of them are old is told by the backends that live."""
    done = []
    for hook in orphans(exam):
        exam.client.delete_webhook(hook.id)
        done.append(f"the webhook to {hook.url} was deleted.")
    own, others = own_and_others(exam)
    for row in own[1:] + dead_backends(others):
        exam.client.delete_backend(row.id)
        done.append(f"the backend {row.url} (row {row.id}) was deleted.")
    return done


def _reconnect(exam: Examination) -> list[str]:
    report = connect_project(exam.settings, exam.client, exam.project_id)
    return [f"it was connected anew: backend {report.backend_url}, webhook, sampling, queue tab."]


def _order(exam: Examination) -> list[str]:
    wanted: dict[str, object] = {"sampling": SAMPLING}
    served = exam.row().served if exam.has_database else ""
    if served and served in exam.client.version_counts(exam.project_id):
        wanted["model_version"] = served
    exam.client.update_project(exam.project_id, **wanted)
    return [f"Label Studio goes by “{SAMPLING}”" + (f" and {served}." if served else ".")]


MENDERS: dict[Fix, Mender] = {
    "file modes": _modes,
    "database": _database,
    "weights": _weights,
    "orphans": _orphans,
    "reconnect": _reconnect,
    "order": _order,
}
"""In the order in which they are done: connecting anew is before the order, which it may change."""
