"""The labelled data of a project, read and written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.export_labels import KIND as LABELS
from backend.export_labels import Tell, export_labels
from backend.exported_labels import read_labels
from backend.label_config import parse_label_config
from backend.own_folder import own_folder
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project
from backend.working_copies import working_copies
from model.plurals import counted


def export_data(
    store: Store, settings: Settings, project_id: int, to: Path, tell: Tell
) -> dict[str, Any]:
    """The labelled data of a project; what was written, with ``sentence`` and ``warnings``.

    Raises:
        LabelConfigError: the labelling config has nothing to learn.
        SetupError: nothing is labelled, or ``to`` is not free.
        StorageError: it cannot be written.
    """
    with store.read() as session:
        project = session.get_one(Project, project_id)
        controls = parse_label_config(project.label_config).controls
        labels = read_labels(session, project, controls, settings.audit_share)
    with own_folder(to, LABELS) as folder:
        folder.description |= {"project": project_id, "title": project.title}
        found = export_labels(folder, labels, working_copies(settings), tell)
    warnings = [
        f"{counted(count, 'label')} left out: {why}." for why, count in labels.left_out.items()
    ]
    if found["images_missing"]:
        first = found["images_missing"][0]
        warnings.append(
            f"{counted(len(found['images_missing']), 'image')} could not be had; "
            f"task {first['task']}: {first['reason']}"
        )
    written, images = counted(found["labels"], "label"), counted(found["images"], "image")
    said = f"{written} of {images} {'is' if found['labels'] == 1 else 'are'} in {to}."
    return {
        "project": project_id,
        "folder": str(to),
        "sentence": said,
        "warnings": warnings,
    } | found
