"""A bucket that is named later: what a machine made before goes there, too."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import select

from backend.champion import artifact_folder, load_whole
from backend.settings import Settings
from backend.shared_copies import share_copies
from backend.shared_files import SharedFiles
from backend.shared_versions import share_version
from backend.store import Store
from backend.tables import Version, version_name
from backend.tuned_networks import MANIFEST_KEY, share_tuned, tuned_folder
from model.errors import ArtifactError, StorageError

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 30.0, 300.0
"""Seconds before what failed is tried again; each wait is twice the one before."""


def share_what_is_here(
    shared: SharedFiles, store: Store, settings: Settings, stop: threading.Event
) -> None:
    """Send what the bucket does not have; where that fails, again and again until ``stop``."""
    wait = FIRST_WAIT
    while not stop.is_set():
        try:
            share_versions(shared, store, settings)
            share_copies(shared, settings.working_copies, stop)
            return
        except StorageError as error:
            log.error("%s", error)
        except Exception:
            log.exception("what is here could not be sent to %s; trying again", shared.root)
        stop.wait(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def share_versions(shared: SharedFiles, store: Store, settings: Settings) -> list[str]:
    """Send the versions that the bucket does not have and whose files are here and whole, each
    after the network that it reads. Safe to repeat, and for several machines at once.

    Raises:
        StorageError: the bucket cannot be had.

    Returns:
        What was sent, in words.
    """
    shared.check()
    query = select(Version.project_id, Version.number).where(~Version.pruned, Version.files == "")
    with store.read() as session:
        rows = session.execute(query.order_by(Version.project_id, Version.number)).all()
    sent = []
    for project_id, number in rows:
        try:
            artifact = load_whole(settings.data_dir, project_id, number)
        except ArtifactError:
            continue  # another machine may have it
        if MANIFEST_KEY in artifact.manifest:
            share_tuned(shared, tuned_folder(settings.data_dir), artifact.backbone)
        folder = artifact_folder(settings.data_dir, project_id, number)
        digest = share_version(shared, project_id, number, folder)
        with store.write() as session:
            row = session.get(Version, (project_id, number))
            if row is not None and not row.files:
                row.files = digest
        sent.append(f"{version_name(number)} of project {project_id}")
    if sent:
        log.info("sent to %s: %s", shared.root, ", ".join(sent))
    return sent
