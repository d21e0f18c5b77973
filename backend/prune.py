"""Removes the files of versions that nothing needs any more; what is known of them stays.

Kept are the champion, the newest versions, those that would serve next were it to fail, and every
version that a prediction in Label Studio still names. The rows are marked before the folders go, so
a version without files can never be promoted; what a killed process left is removed the next time.
A fine-tuned network goes with the last version that reads its features, and so do the features.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select

from backend.champion import artifact_folder
from backend.labelstudio import LabelStudio
from backend.orders import version_of
from backend.settings import Settings
from backend.shared_files import shared_files
from backend.shared_versions import forget_versions
from backend.store import Store
from backend.tables import Order, Project, SentPart, Version, version_name
from backend.tuned_networks import forget_unneeded
from backend.versions import bytes_on_disk
from model.errors import ArtifactError


@dataclass(frozen=True)
class PruneReport:
    """``removed`` versions, or those that would be; ``kept`` ones, each with the reason."""

    project: int
    removed: list[str]
    kept: dict[str, str]
    bytes: int
    dry_run: bool


def prune(
    store: Store, client: LabelStudio, settings: Settings, project_id: int, *, dry_run: bool = False
) -> PruneReport:
    """Remove what nothing needs. Nothing is removed while Label Studio cannot be asked.

    Raises:
        LabelStudioError: Label Studio did not say which versions its predictions name.
        ArtifactError: a folder cannot be removed.
    """
    named = client.version_counts(project_id)
    with store.write() as session:
        project = session.get_one(Project, project_id, with_for_update=True)
        rows = session.scalars(
            select(Version).where(Version.project_id == project_id).order_by(Version.number)
        ).all()
        needed = reasons_to_keep(
            project, [row.number for row in rows], named, settings.keep_versions
        )
        folders = {
            row.number: artifact_folder(settings.data_dir, project_id, row.number)
            for row in rows
            if row.number not in needed or row.pruned
        }
        kept = {version_name(n): why for n, why in needed.items() if n not in folders}
        if not dry_run:
            for row in rows:
                row.pruned = row.number in folders
            for table in (Order, SentPart):
                of_pruned = table.version.in_(list(folders))
                session.execute(delete(table).where(table.project_id == project_id, of_pruned))
            project.history = [number for number in project.history if number not in folders]
        folders = {number: folder for number, folder in folders.items() if folder.exists()}
        size = sum(map(bytes_on_disk, folders.values()))
    if not dry_run:
        for number, folder in folders.items():
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise ArtifactError(
                    f"The files of {version_name(number)} in {folder} cannot be removed ({error}).",
                    mend="Check the permissions of that folder, and prune again.",
                ) from error
        shared = shared_files(settings)
        if shared is not None:
            forget_versions(shared, store, project_id)
        forget_unneeded(store, settings, shared)
    return PruneReport(project_id, [version_name(n) for n in folders], kept, size, dry_run)


def reasons_to_keep(
    project: Project, numbers: list[int], named: Mapping[str, int], keep: int
) -> dict[int, str]:
    """Number → why it is needed, for the versions that are. ``numbers`` ascend."""
    held = Counter[int]()
    for name, count in named.items():
        version = version_of(name)
        if version is not None:
            held[version] += count
    reasons = {
        number: f"{held[number]} predictions in Label Studio name it"
        for number in numbers
        if held[number]
    }
    reasons |= dict.fromkeys(numbers[-keep:], f"one of the newest {keep}")
    reasons |= dict.fromkeys(project.history[-keep:], "served before")
    if project.champion:
        reasons[project.champion] = "serves"
    return reasons
