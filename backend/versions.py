"""The versions of a project: show one, promote one by hand, roll back.

A promotion is one small transaction that never waits for the trainer. It switches what serves and
asks the trainer to find out what Label Studio still holds of that version, so that only the tasks
that came since are pushed. What was learned stays written down as it is: nothing is trained because
of it, and the next training is judged against the version that then serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock
from backend.champion import artifact_folder, load_whole, replace_champion
from backend.errors import SetupError
from backend.label_config import Control
from backend.orders import newest_order, wanted_strategy
from backend.pool import count_images
from backend.projects import version_json
from backend.settings import Settings, variable_name
from backend.shared_files import shared_files
from backend.store import Store
from backend.sync import controls_of
from backend.tables import Hint, Project, Version, version_name
from model.artifact import Artifact
from model.errors import ArtifactError, StorageError
from model.head import Head
from model.plurals import counted

BY_HAND = "Promoted by hand"


@dataclass(frozen=True)
class Promotion:
    """What came of a promotion: ``before`` served until now; both are names."""

    project: int
    version: str
    before: str
    changed: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if not self.changed:
            return f"{self.version} serves already."
        return f"{self.version} serves now, instead of {self.before}."


def version_number(text: str) -> int:
    """Number of a version by its name: ``v3`` or ``3``."""
    found = re.fullmatch(r"v?([1-9][0-9]{0,8})", text.strip())
    if not found:
        raise SetupError(f"“{text}” is not a version.", mend="Write it as in v3.")
    return int(found[1])


def get_version(session: Session, project_id: int, number: int) -> Version:
    """A version's row. :class:`SetupError` when the project has none of that number."""
    row = session.get(Version, (project_id, number))
    if row is not None:
        return row
    known = session.scalars(
        select(Version.number).where(Version.project_id == project_id).order_by(Version.number)
    ).all()
    names = ", ".join(map(version_name, known)) or "none yet"
    raise SetupError(
        f"Project {project_id} has no version {version_name(number)}; there are: {names}.",
        mend=f"See tiebreak versions {project_id}",
    )


def bytes_on_disk(folder: Path) -> int:
    """Size of a version's files; 0 without a folder."""
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0


def load_version(settings: Settings, project_id: int, row: Version) -> Artifact:
    """What a version's files hold; :class:`SetupError` when it was pruned, else ArtifactError.

    Of a version of a fine-tuned network that is checked too.
    """
    if row.pruned:
        raise _pruned(row.number)
    shared = shared_files(settings)
    return load_whole(settings.data_dir, project_id, row.number, shared, row.files)


def show_version(store: Store, settings: Settings, project_id: int, number: int) -> dict[str, Any]:
    """A version with what its files hold: heads, manifest, size, and what is wrong with them."""
    with store.read() as session:
        row = get_version(session, project_id, number)
        champion = session.get_one(Project, project_id).champion
        found: dict[str, Any] = {**version_json(row, champion, whole=True)}
    folder = artifact_folder(settings.data_dir, project_id, number)
    found |= {"problem": "", "heads": [], "manifest": {}}
    try:
        artifact = load_version(settings, project_id, row)
    except (ArtifactError, SetupError, StorageError) as error:
        return found | {"bytes": bytes_on_disk(folder), "problem": error.message}
    found["bytes"] = bytes_on_disk(folder)
    heads = [_head_json(name, head) for name, head in artifact.heads.items()]
    return found | {"heads": heads, "manifest": artifact.manifest}


def _head_json(control: str, head: Head) -> dict[str, Any]:
    """A head as plain values; ``thresholds`` only where several classes may be ticked."""
    found = {"control": control, "classes": list(head.classes), "multiple": head.multiple}
    if head.thresholds is None:
        return found
    return found | {"thresholds": [round(float(each), 4) for each in head.thresholds]}


def promote(
    store: Store, settings: Settings, project_id: int, number: int, serving: int | None = None
) -> Promotion:
    """Make a version the champion, after its files have passed every check. ``serving``, where it
    is given, must still serve then.

    Raises:
        ArtifactError: its files are missing or damaged; what serves goes on serving.
        SetupError: there is no such version, it cannot work with the settings and the config, or
            ``serving`` serves no more.
    """
    warnings = _check(store, settings, project_id, number)

    def switch(project: Project, row: Version) -> None:
        replace_champion(project, row.number)
        if not row.kept:
            # It can now be rolled back to and fallen back to, as any other that has served.
            row.kept, row.reason = True, f"{BY_HAND}. {row.reason}"

    return _switch(store, project_id, number, serving, switch, warnings)


def roll_back(
    store: Store, settings: Settings, project_id: int, serving: int | None = None
) -> Promotion:
    """Put back the champion before; again, the one before that. ``serving`` and what is raised: as
    of :func:`promote`."""
    with store.read() as session:
        project = session.get_one(Project, project_id)
        now, history = project.champion, list(project.history)
    serving = now if serving is None else serving
    if serving != now:
        raise _serves_no_more(now)
    if not history:
        raise SetupError(
            f"No version served before {version_name(serving)}."
            if serving
            else "Nothing is learned yet, so no version serves.",
            mend=f"See tiebreak versions {project_id}",
        )
    warnings = _check(store, settings, project_id, history[-1])

    def switch(project: Project, row: Version) -> None:
        project.champion, project.history = row.number, history[:-1]

    return _switch(store, project_id, history[-1], serving, switch, warnings)


def _switch(
    store: Store,
    project_id: int,
    number: int,
    expected: int | None,
    switch: Callable[[Project, Version], None],
    warnings: list[str],
) -> Promotion:
    """The one transaction; ``expected`` must still serve, where it matters."""
    with store.write() as session:
        project = session.get_one(Project, project_id, with_for_update=True)
        row = get_version(session, project_id, number)
        before = project.champion
        name = version_name(number)
        if expected is not None and before != expected:
            raise _serves_no_more(before)
        if before == number:
            return Promotion(project_id, name, name, False)
        if row.pruned:
            raise _pruned(number)
        switch(project, row)
        project.pushing = True
        session.add(
            Hint(project_id=project_id, action="PROMOTED", task_ids=[], created_at=clock.now())
        )
    return Promotion(project_id, name, version_name(before), True, warnings)


def _serves_no_more(now: int) -> SetupError:
    return SetupError(f"{version_name(now)} was promoted meanwhile.", mend="Look, and try again.")


def _check(store: Store, settings: Settings, project_id: int, number: int) -> list[str]:
    """Raise unless a version can serve; sentences about what its user should know."""
    with store.read() as session:
        project = session.get_one(Project, project_id)
        row = get_version(session, project_id, number)
        controls = controls_of(project)
        order = newest_order(session, project_id, number)
        strategy = wanted_strategy(project, settings.strategy)
    artifact = load_version(settings, project_id, row)
    if project.champion == number:
        return []
    _require_backbone(settings, row)
    warnings = [] if row.kept else [f"The gate refused {version_name(number)}. {row.reason}"]
    with store.read() as session:
        counts = count_images(session, project_id, row.backbone)
    if counts.embedded + counts.failed < counts.images:
        lacking = counts.images - counts.embedded - counts.failed
        are, their = ("is", "its") if lacking == 1 else ("are", "their")
        warnings.append(
            f"{lacking:,} of {counted(counts.images, 'image')} {are} still to be embedded for "
            f"{version_name(number)}; until the trainer has done that, {their} tasks wait."
        )
    if order is not None and order.known and order.strategy != strategy:
        warnings.append(
            f"The last order of {version_name(number)} was picked by {order.strategy}; it is made "
            f"anew by {strategy}."
        )
    return warnings + _misfits(artifact, controls)


def _require_backbone(settings: Settings, row: Version) -> None:
    """The identity of a backbone, fine-tuned or not, begins with its name and ends with its input
    size."""
    name = row.backbone.partition("-")[0]
    size = row.backbone.rpartition("-")[2].removesuffix("px")
    if (name, size) == (settings.backbone, str(settings.input_size)):
        return
    wanted = f"{variable_name('backbone')}={name} {variable_name('input_size')}={size}"
    raise SetupError(
        f"{version_name(row.number)} reads features of {row.backbone}, but the settings are "
        f"{settings.backbone} at {settings.input_size} pixels: it could judge no new image.",
        mend=f"Set {wanted}, restart tiebreak serve and tiebreak trainer, and promote it then.",
    )


def _misfits(artifact: Artifact, controls: tuple[Control, ...]) -> list[str]:
    """How a version differs from the labelling config of today."""
    name = version_name(artifact.version)
    fitting, found = 0, []
    for control in controls:
        head = artifact.heads.get(control.name)
        if head is None or head.multiple != control.multiple:
            found.append(f"{name} has not learned the control “{control.name}”.")
            continue
        unknown = [c for c in control.classes if c not in head.classes]
        gone = [c for c in head.classes if c not in control.classes]
        fitting += len(gone) < len(head.classes)
        if unknown:
            found.append(f"{name} does not know “{'”, “'.join(unknown)}” of “{control.name}”.")
        if gone:
            found.append(f"“{'”, “'.join(gone)}” of {name} is not in “{control.name}” any more.")
    if fitting:
        return found
    raise SetupError(
        f"{name} has learned nothing that the labelling config of today asks for.",
        mend="Promote a version that was trained with this config.",
    )


def _pruned(number: int) -> SetupError:
    return SetupError(
        f"The files of {version_name(number)} were pruned.",
        mend="Choose a version that still has its files: tiebreak versions PROJECT",
    )
