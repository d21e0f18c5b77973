"""One trainer per project: a row with an owner and a heartbeat.

A trainer that is silent for ``lease_seconds`` loses its projects to whoever asks next. Before it
promotes anything, a trainer checks in the same transaction that the lease is still its own, so that
one that woke up late cannot overwrite the work of the one that took over.
"""

from __future__ import annotations

import time

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from backend.errors import LeaseLost
from backend.store import Store
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
        now = time.time()
        with self._store.write() as session:
            lease = session.get(Lease, project_id, with_for_update=True)
            if lease is None:
                session.add(Lease(project_id=project_id, owner=self.owner, heartbeat_at=now))
                return True
            if lease.owner != self.owner and lease.heartbeat_at > now - self.seconds:
                return False
            lease.owner, lease.heartbeat_at = self.owner, now
            return True

    def beat(self) -> None:
        """Say that this trainer is alive."""
        now = time.time()
        with self._store.write() as session:
            session.merge(TrainerProcess(owner=self.owner, heartbeat_at=now))
            session.execute(update(Lease).where(Lease.owner == self.owner).values(heartbeat_at=now))

    def check(self, session: Session, project_id: int) -> None:
        """Raise :class:`LeaseLost` unless the lease is ours, as seen by this transaction."""
        owner = session.scalar(
            select(Lease.owner).where(Lease.project_id == project_id).with_for_update()
        )
        if owner != self.owner:
            raise LeaseLost(
                f"Another trainer took over project {project_id} while this one was silent."
            )

    def release(self, project_id: int) -> None:
        """Free the lease of a project, if it is ours."""
        with self._store.write() as session:
            session.execute(
                delete(Lease).where(Lease.project_id == project_id, Lease.owner == self.owner)
            )

    def give_back(self) -> None:
        """Free every lease of this trainer, which works no longer."""
        with self._store.write() as session:
            session.execute(delete(Lease).where(Lease.owner == self.owner))
            session.execute(delete(TrainerProcess).where(TrainerProcess.owner == self.owner))
