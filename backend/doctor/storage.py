"""Checks of what is shared between processes: the database, a trainer, the bucket."""

from __future__ import annotations

import time
import uuid

from sqlalchemy.exc import DBAPIError

from backend import clock as database_clock
from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, failed, ok, warning
from backend.projects import trainer_alive
from backend.shared_files import shared_files
from backend.store import newest_revision

MOST_SECONDS_APART = 60.0
DATABASE_MEND = "Check DATABASE_URL, TIEBREAK_DATA_DIR, that the server runs, and permissions."


def database(exam: Examination) -> Outcome:
    """The database can be written, and its tables have the form that this program knows."""
    if not exam.has_database:
        return failed(
            f"There is no database in {exam.settings.data_dir.resolve()} yet.",
            "Start the server and the trainer, which make it, or set TIEBREAK_DATA_DIR to the "
            "folder that they use.",
            fix="database",
        )
    try:
        found, newest = exam.store.revision(), newest_revision()
        if found == newest:
            with exam.store.write():
                pass
            return ok(f"The database can be written, and has the newest form ({newest})")
    except DBAPIError as error:
        return failed(f"The database cannot be used: {error.orig}.", DATABASE_MEND)
    if found > newest:
        return failed(
            f"The database has form {found}, and this program knows up to {newest}.",
            "Use the program that wrote it, or a newer one; there is no way back.",
        )
    return failed(
        f"The database has form {found or '0'}, and this program wants {newest}.",
        "Start the server or the trainer of this version, or give --fix: the tables are brought "
        "up to date.",
        fix="database",
    )


def database_time(exam: Examination) -> Outcome:
    """The database's clock, by which everybody goes, is this machine's or close to it."""
    with exam.store.read() as session:
        apart = exam.store.now(session) - time.time()
    database_clock.follow_this_machine()
    if abs(apart) > MOST_SECONDS_APART:
        return warning(
            f"The database's clock is {apart:+.0f} s from this machine's.",
            "Let both take the time from the network (NTP).",
        )
    return ok(f"The database's clock is {abs(apart):.0f} s from this machine's")


def trainer(exam: Examination) -> Outcome:
    """A trainer is alive."""
    with exam.store.read() as session:
        alive = trainer_alive(session, exam.settings.lease_seconds)
    if alive:
        return ok("A trainer is alive")
    return failed(
        f"No trainer has shown a sign of life for {exam.settings.lease_seconds:g} s.",
        "Start one with the same settings: tiebreak trainer. If one runs, it has another data "
        "folder or database.",
    )


def bucket(exam: Examination) -> Outcome:
    """Objects can be listed, written, read and removed; the one that is written is removed."""
    shared = shared_files(exam.settings)
    if shared is None:
        return ok("No bucket is set; the data folder has everything")
    shared.check()
    key, data = f"doctor/{uuid.uuid4().hex}", b"doctor"
    shared.put(key, data)
    try:
        read = shared.get(key)
    finally:
        shared.remove([key])
    if read != data:
        return failed(
            f"What was written into {shared.root} is not what is read there.",
            "Check the bucket's server and what stands before it.",
        )
    return ok(f"{shared.root} can be listed, written and read")
