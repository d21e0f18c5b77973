"""One trainer per project: a row with an owner and a heartbeat.

A trainer that is silent for ``lease_seconds``, or whose step shows no progress for longer than it
may take (see :mod:`backend.watch`), loses its projects to whoever asks next; one whose
process has ended loses them at once to a trainer of the same machine. Before it
promotes anything, a trainer checks in the same transaction that the lease is still its own, so that
one that woke up late cannot overwrite the work of the one that took over.

The database's clock decides, so machines whose clocks disagree agree about that.
"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from backend import clock
from backend.errors import LeaseLost
from backend.store import Store, insert_new
from backend.tables import Lease, TrainerProcess


class Leases:
    """The leases that one trainer holds.

    Args:
        owner: a name that no other trainer has.
        seconds: silence after which a lease is free for others.
    """

    def __init__(self, store: Store, owner: str, seconds: float) -> None:
        self.owner = owner
        self.seconds = seconds
        self._store = store

    def acquire(self, project_id: int) -> bool:
        """Take the lease of a project if it is free, expired or already ours."""
        with self._store.write(alone=False) as session:
            new = {"project_id": project_id, "owner": self.owner}
            new["heartbeat_at"] = self._store.now(session)
            insert_new(session, Lease, [new])
            query = select(Lease).where(Lease.project_id == project_id)
            lease = session.scalars(query.with_for_update(skip_locked=True)).first()
            if lease is None:
                return False  # its owner is in the middle of writing something down
            now = self._store.now(session)
            fresh = lease.heartbeat_at > now - self.seconds and not has_ended(lease.owner)
            if lease.owner != self.owner and fresh:
                return False
            lease.owner, lease.heartbeat_at = self.owner, now
            return True

    def beat(self) -> None:
        """Say that this trainer is alive."""
        with self._store.write(alone=False) as session:
            ours = Lease.owner == self.owner
            # A step that writes holds its lease's row; the time is that of when it lets go of it.
            held = select(Lease.project_id).where(ours).order_by(Lease.project_id)
            session.execute(held.with_for_update())
            now = self._store.now(session)
            session.merge(TrainerProcess(owner=self.owner, heartbeat_at=now))
            session.execute(update(Lease).where(ours).values(heartbeat_at=now))

    def works(self, owner: str) -> bool:
        """Whether the trainer of that name shows signs of life; it may be this one."""
        with self._store.read() as session:
            process = session.get(TrainerProcess, owner)
        fresh = process is not None and process.heartbeat_at > clock.now() - self.seconds
        return fresh and not has_ended(owner)

    def check(self, session: Session, project_id: int) -> None:
        """Raise :class:`LeaseLost` unless the lease is ours, as seen by this transaction."""
        query = select(Lease.owner).where(Lease.project_id == project_id)
        self._require(session.scalar(query.with_for_update()), project_id)

    def ensure(self, project_id: int) -> None:
        """Raise :class:`LeaseLost` unless the lease is ours now; before what no transaction can
        hold: a message to Label Studio, a folder."""
        with self._store.read() as session:
            owner = session.scalar(select(Lease.owner).where(Lease.project_id == project_id))
        self._require(owner, project_id)

    def _require(self, owner: str | None, project_id: int) -> None:
        if owner != self.owner:
            raise LeaseLost(
                f"Another trainer took over project {project_id} while this one was silent."
            )

    def release(self, project_id: int) -> None:
        """Free the lease of a project, if it is ours."""
        with self._store.write(alone=False) as session:
            session.execute(
                delete(Lease).where(Lease.project_id == project_id, Lease.owner == self.owner)
            )

    def give_back(self) -> None:
        """Free every lease of this trainer, which works no longer."""
        with self._store.write(alone=False) as session:
            session.execute(delete(Lease).where(Lease.owner == self.owner))
            session.execute(delete(TrainerProcess).where(TrainerProcess.owner == self.owner))


def owner_name() -> str:
    """A name for this process that no other has, and that tells this machine when it has ended."""
    return f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def has_ended(owner: str) -> bool:
    """Whether the owner is a process of this machine that is no more; False when unknown."""
    machine, _, number = owner.rpartition("-")[0].rpartition("-")
    if machine != _machine() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _machine() -> str:
    """Host, and where the system tells them, its start and the space of its process ids: machines
    and containers may share a name, but never all three."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        boot = space = "0"
    return f"{socket.gethostname()[:60]}-{boot}-{space}"
