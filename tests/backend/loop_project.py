"""A project of pictures in a small Label Studio, and the trainer's steps on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from backend.champion import Champions, artifact_folder
from backend.engine import LocalEngine
from backend.finetune_child import FineTuneSlot
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.projects import ControlStatus, project_status, register_project
from backend.push import Pace
from backend.reconciler import Reconciler
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project
from backend.tools import Tools
from backend.working_copies import WorkingCopies
from model.artifact import Artifact, load_artifact
from tests.backend.peers import shared_decoders
from tests.backend.small_label_studio import ColourEngine, SmallLabelStudio

COLOURS = {"cat": (220, 30, 30), "dog": (30, 220, 30), "owl": (30, 30, 220)}
CLASSES = tuple(COLOURS)


def config(*classes: str, extra: str = "") -> str:
    choices = "".join(f'<Choice value="{name}"/>' for name in classes)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="label" toName="image"{extra}>{choices}</Choices></View>'
    )


def fill(studio: SmallLabelStudio, pictures: int, labelled: int = 0) -> None:
    """Tasks from 1 on in the colours of the classes in turn, the first of them labelled."""
    studio.project["label_config"] = config(*CLASSES)
    for task in range(1, pictures + 1):
        studio.add_task(task, COLOURS[CLASSES[task % 3]])
    for task in range(1, labelled + 1):
        studio.annotate(task, label=[CLASSES[task % 3]])


class Loop:
    """A project of pictures, and the trainer's steps on it."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        client: LabelStudio,
        engine: ColourEngine | None = None,
    ) -> None:
        self.engine = engine or ColourEngine()
        leases = Leases(store, "test", 30)
        self.tools = Tools(
            settings=settings,
            store=store,
            client=client,
            fetcher=ImageFetcher(settings, client, decoders=shared_decoders()),
            copies=WorkingCopies(settings.working_copies, settings.working_copy_side),
            engine=cast(LocalEngine, self.engine),
            champions=Champions(store, settings.data_dir),
            leases=leases,
            pace=Pace(),
            slot=FineTuneSlot(),
        )
        register_project(store, 1, title="Test", label_config=config(*CLASSES))
        assert leases.acquire(1)
        self.reconciler = Reconciler(self.tools, 1)

    def settle(self) -> Project:
        """Do every step that is missing, as after a hint of any change."""
        with self.tools.store.write() as session:
            session.get_one(Project, 1).looked_at = 0.0
        self.reconciler.run(lambda: False)
        with self.tools.store.read() as session:
            return session.get_one(Project, 1)

    def control(self) -> ControlStatus:
        """How the control stands."""
        with self.tools.store.read() as session:
            return project_status(session, session.get_one(Project, 1), 30).controls[0]

    def champion(self) -> Artifact:
        """The version that serves, from its files."""
        with self.tools.store.read() as session:
            number = session.get_one(Project, 1).champion
        return load_artifact(artifact_folder(self.tools.settings.data_dir, 1, number))


MakeLoop = Callable[..., Loop]


@pytest.fixture
def make_loop(settings: Settings, store: Store, small_client: LabelStudio) -> Iterator[MakeLoop]:
    """``make_loop(engine, NAME=value)``: the trainer's steps on the small Label Studio, with some
    settings changed."""
    made: list[Loop] = []

    def make(engine: ColourEngine | None = None, **changes: Any) -> Loop:
        made.append(Loop(settings.model_copy(update=changes), store, small_client, engine))
        return made[-1]

    yield make
    for loop in made:
        loop.tools.fetcher.close()
