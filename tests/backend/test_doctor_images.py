"""What the doctor says of where a project's images come from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.doctor.findings import Finding
from backend.doctor.images import MOST_SOURCES
from backend.settings import Settings
from tests.backend.conftest import SINGLE
from tests.backend.doctors import look
from tests.backend.small_label_studio import SmallLabelStudio
from tests.serving import serving


@pytest.fixture
def studio() -> Iterator[SmallLabelStudio]:
    """A Label Studio that every address of this machine leads to."""
    with serving(SmallLabelStudio("0.0.0.0")) as server:
        server.project["label_config"] = SINGLE
        yield server


def fetched(studio: SmallLabelStudio, settings: Settings, hosts: int) -> Finding:
    """What is found with an image on each of so many hosts."""
    port = studio.server_address[1]
    for task in range(1, hosts + 1):
        studio.add_task(task, (20 * task, 0, 0))
        studio.tasks[task]["data"] = {"image": f"http://127.0.0.{task}:{port}/data/{task}"}
    own = settings.model_copy(update={"image_allowed_networks": ("127.0.0.0/8",)})
    return look("images", own, studio.url, project=1)


def test_one_image_is_said_as_one(studio: SmallLabelStudio, settings: Settings) -> None:
    found = fetched(studio, settings, 1)
    assert (found.state, found.what) == ("ok", "1 image of 1 source was fetched (http://127.0.0.1)")


def test_only_sources_that_were_tried_are_named(
    studio: SmallLabelStudio, settings: Settings
) -> None:
    found = fetched(studio, settings, MOST_SOURCES + 2)
    names = ", ".join(f"http://127.0.0.{n}" for n in range(1, MOST_SOURCES + 1))
    assert found.state == "ok"
    assert found.what == f"8 images of 8 sources were fetched ({names}); 2 more sources not tried"


def test_images_that_cannot_be_had_are_counted(
    studio: SmallLabelStudio, settings: Settings
) -> None:
    studio.add_task(1, (0, 0, 0))
    studio.pictures[1] = b"no picture"
    found = look("images", settings, studio.url, project=1)
    assert found.state == "failed"
    assert found.what.startswith("1 of 1 image that was tried cannot be had. Label Studio, task 1:")
