from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from backend.image_steps import ImageSteps
from backend.projects import project_status
from backend.store import Store
from backend.tables import Project
from tests.backend.loop_project import MakeLoop, fill
from tests.backend.small_label_studio import ColourEngine, SmallLabelStudio


class Looking(ColourEngine):
    """An engine that looks at the status whenever it is to embed something."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.seen: list[str] = []

    def embed(self, images: Sequence[Image.Image], *rest: Any) -> NDArray[Any]:
        with self.store.read() as session:
            self.seen.append(project_status(session, session.get_one(Project, 1), 30).activity)
        return super().embed(images, *rest)


def test_how_many_are_embedded_is_counted_and_no_part_of_the_activity(
    make_loop: MakeLoop, store: Store, small_label_studio: SmallLabelStudio
) -> None:
    fill(small_label_studio, 5)
    engine = Looking(store)
    loop = make_loop(engine)
    loop.settle()
    assert set(engine.seen) == {"embedding images"}
    with store.read() as session:
        assert project_status(session, session.get_one(Project, 1), 30).embedded == 5


def test_nothing_is_said_where_every_image_is_embedded(
    make_loop: MakeLoop, small_label_studio: SmallLabelStudio
) -> None:
    fill(small_label_studio, 3)
    loop = make_loop()
    loop.settle()
    said: list[str] = []
    loop.tools.calm.disturb(1)
    assert not ImageSteps(loop.tools, 1, said.append, lambda _: None).embed_pool()
    assert said == []
