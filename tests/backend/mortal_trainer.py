"""A trainer that is killed at any instant, and started again until it has settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from backend.labelstudio import LabelStudio
from backend.store import Store
from tests.backend.loop_project import Loop
from tests.backend.queue_studio import (
    Studio,
)


class Killed(BaseException):
    """The process is no more."""


class Mortal:
    """Kills now and then, before or after what it is asked about."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.deaths = 0
        self.lives = True

    def perhaps(self) -> None:
        if self.lives and self._random.random() < 0.06:
            self.deaths += 1
            raise Killed


def mortal_store(address: str, fate: Mortal) -> Store:
    """A database whose writing may kill."""

    class MortalStore(Store):
        @contextmanager
        def write(self, *, alone: bool = True) -> Iterator[Session]:
            fate.perhaps()
            with super().write(alone=alone) as session:
                yield session
            fate.perhaps()

    return MortalStore(address)


def mortal_client(url: str, fate: Mortal) -> LabelStudio:
    """A Label Studio whose changing may kill."""

    class MortalClient(LabelStudio):
        def import_predictions(self, *arguments: Any) -> int:
            fate.perhaps()
            created = super().import_predictions(*arguments)
            fate.perhaps()
            return created

        def delete_predictions(self, *arguments: Any) -> int:
            fate.perhaps()
            count = super().delete_predictions(*arguments)
            fate.perhaps()
            return count

        def update_project(self, *arguments: Any, **fields: Any) -> Any:
            fate.perhaps()
            answer = super().update_project(*arguments, **fields)
            fate.perhaps()
            return answer

    return MortalClient(url, "0" * 40)


def until_it_lives(studio: Studio, fate: Mortal) -> None:
    """Start the trainer again and again, until it has settled."""
    for _ in range(400):
        store = mortal_store(studio.settings.database_address, fate)
        client = mortal_client(studio.server.url, fate)
        loop = None
        try:
            loop = Loop(studio.settings, store, client, studio.engine)
            loop.settle()
            return
        except Killed:
            pass
        finally:
            if loop is not None:
                loop.tools.fetcher.close()
            client.close()
            store.close()
    raise AssertionError("it never settled")
