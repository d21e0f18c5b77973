from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select

from backend.tables import ImageGroup, Task, Version
from tests.backend.mortal_trainer import Mortal, until_it_lives
from tests.backend.queue_studio import Studio, check, picture, studio

__all__ = ["studio"]


@pytest.mark.parametrize("seed", range(2))
def test_a_trainer_killed_at_any_instant_goes_on(studio: Studio, seed: int) -> None:
    fate = Mortal(seed)
    for round_ in range(3):
        until_it_lives(studio, fate)
        if round_ == 1:
            studio.server.add_picture(41, picture(41))
        studio.label_next(12 if round_ == 0 else 10)
    until_it_lives(studio, fate)
    assert fate.deaths > 3
    fate.lives = False
    project = studio.settle()
    check(studio, project)
    assert project.champion >= 2
    counts = Counter((p["task"], p["model_version"]) for p in studio.server.predictions)
    assert set(counts.values()) == {1}
    for version in range(project.champion + 1):
        numbers = [order.number for order in studio.orders() if order.version == version]
        assert numbers == list(range(len(numbers)))
    with studio.store.read() as session:
        digests = session.scalars(select(ImageGroup.digest)).all()
        assert len(set(digests)) == len(digests) == 41
        assert session.scalars(select(Version.number).order_by(Version.number)).all() == list(
            range(1, project.champion + 1)
        )
        assert session.get(Task, (1, 41)) is not None
