from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.errors import ImageError
from backend.image_pipeline import AHEAD, GROUP, Fetched, Wanted, as_they_come, embedded_groups
from model.errors import StorageError


def wanted(count: int) -> list[Wanted]:
    return [Wanted(f"s{n}", f"/{n}.png", n, None) for n in range(count)]


def picture(image: Wanted) -> Fetched:
    number = image.task_id
    return Fetched(image.source, f"d{number}", Image.new("RGB", (4, 4), (number, 0, 0)), None)


def reds(images: Sequence[Image.Image]) -> NDArray[np.float16]:
    return np.array([[image.getpixel((0, 0))[0]] for image in images], dtype=np.float16)


def test_every_image_comes_with_its_own_embedding() -> None:
    random = np.random.default_rng(0)

    def fetch(image: Wanted) -> Fetched:
        time.sleep(random.uniform(0, 0.003))
        return picture(image)

    heard: list[None] = []
    groups = list(embedded_groups(wanted(100), fetch, reds, 4, lambda: heard.append(None)))
    assert [len(group.fetched) for group in groups] == [GROUP, GROUP, GROUP, 4]
    assert len(heard) == 100
    vectors = {digest: float(v[0]) for group in groups for digest, v in group.vectors.items()}
    assert vectors == {f"d{n}": float(n) for n in range(100)}
    assert all(each.image is None for group in groups for each in group.fetched)


def test_a_bad_image_fails_alone() -> None:
    def fetch(image: Wanted) -> Fetched | None:
        if image.task_id == 17:
            return Fetched(image.source, None, None, ImageError("broken", retry=False))
        return None if image.task_id == 20 else picture(image)

    groups = list(embedded_groups(wanted(40), fetch, reds, 3, lambda: None))
    fetched = {each.source: each for group in groups for each in group.fetched}
    assert set(fetched) == {f"s{n}" for n in range(40) if n != 20}
    assert str(fetched["s17"].error) == "broken"
    assert {d for group in groups for d in group.vectors} == {
        f"d{n}" for n in range(40) if n not in (17, 20)
    }


def test_the_images_in_memory_are_bounded() -> None:
    """However slowly they are embedded, and however many there are."""
    lock, alive, most = threading.Lock(), 0, 0
    workers = 3

    def fetch(image: Wanted) -> Fetched:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return picture(image)

    def embed(images: Sequence[Image.Image]) -> NDArray[np.float16]:
        nonlocal alive
        time.sleep(0.02)
        with lock:
            alive -= len(images)
        return reds(images)

    for _ in embedded_groups(wanted(600), fetch, embed, workers, lambda: None):
        time.sleep(0.005)
    assert alive == 0
    # One group is embedded, one waits to be, one is gathered.
    assert GROUP < most <= 3 * GROUP + AHEAD * workers


def test_a_slow_image_holds_up_nobody() -> None:
    others = threading.Event()
    finished: list[int] = []

    def work(number: int) -> int:
        if number == 0:
            assert others.wait(60)
        return number

    def all_but_the_first() -> Iterator[int]:
        for number in as_they_come(work, range(50), 2):
            finished.append(number)
            if len(finished) == 49:
                others.set()
            yield number

    assert sorted(all_but_the_first()) == list(range(50))
    assert finished[-1] == 0


def test_what_came_before_an_error_is_not_lost() -> None:
    def fetch(image: Wanted) -> Fetched:
        if image.task_id == 60:
            raise StorageError("The disk is full.")
        return picture(image)

    kept: set[str] = set()

    def take() -> None:
        for group in embedded_groups(wanted(200), fetch, reds, 1, lambda: None):
            kept.update(group.vectors)

    with pytest.raises(StorageError, match="The disk is full"):
        take()
    assert kept == {f"d{n}" for n in range(60)}


def test_an_error_of_the_network_is_raised() -> None:
    def embed(images: Sequence[Image.Image]) -> NDArray[np.float16]:
        raise StorageError("no weights")

    with pytest.raises(StorageError, match="no weights"):
        list(embedded_groups(wanted(100), picture, embed, 2, lambda: None))


def test_nothing_is_wanted() -> None:
    assert list(embedded_groups([], picture, reds, 2, lambda: None)) == []
