from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model.backbones import Backbone
from model.learner import Learner, ask
from model.pictures import AHEAD, Pictures, batches
from model.validation import features_both_ways, features_of
from model.world import World
from tests.model.test_learner import two_controls

SIDE = 8
CPU = torch.device("cpu")


class Shelf:
    """Images of one colour, their own number, and how often each is read."""

    def __init__(self) -> None:
        self.read: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, row: int) -> Image.Image:
        with self._lock:
            self.read[row] += 1
        pixels = np.full((SIDE, SIDE, 3), row, dtype=np.uint8)
        pixels[:, 0] = 200
        return Image.fromarray(pixels)


def pictures(shelf: Shelf, n: int, *, kept: bool) -> Pictures:
    found = Pictures(shelf, n, SIDE, kept_bytes=1 << 20 if kept else 0)
    found.read_all(lambda _: None)
    return found


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pictures_come_in_the_order_of_the_rows(kept: bool, workers: int) -> None:
    rows = np.random.default_rng(0).permutation(23)
    seen = list(batches(pictures(Shelf(), 23, kept=kept), rows, 5, workers=workers))
    assert [len(part) for part, _ in seen] == [5, 5, 5, 5, 3]
    assert np.concatenate([part for part, _ in seen]).tolist() == rows.tolist()
    pixels = torch.cat([pixels for _, pixels in seen])
    assert pixels.shape == (23, 3, SIDE, SIDE)
    assert pixels.dtype == torch.uint8
    assert pixels[:, 0, 3, 5].tolist() == rows.tolist()
    assert bool((pixels[:, :, :, 0] == 200).all())
    assert seen[0][1].is_contiguous(memory_format=torch.channels_last)


def test_a_change_gets_the_places_of_its_pictures() -> None:
    rows = np.array([7, 3, 3, 9, 1])
    given: list[tuple[list[int], list[int]]] = []

    def change(pixels: torch.Tensor, places: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
        given.append((pixels[:, 0, 0, 1].tolist(), places.tolist()))
        return pixels + 1

    shelf = pictures(Shelf(), 10, kept=True)
    second = list(batches(shelf, rows, 3, change=change, world=World(1, 2)))
    assert given == [([3], [2]), ([1], [4])]
    assert [pixels[:, 0, 0, 1].tolist() for _, pixels in second] == [[4], [2]]
    assert [part.tolist() for part, _ in second] == [[7, 3, 3], [9, 1]]


def test_pictures_that_are_not_kept_are_read_a_little_ahead_and_once() -> None:
    shelf = Shelf()
    seen = batches(pictures(shelf, 60, kept=False), np.arange(60), 4, workers=2)
    next(seen)
    seen.close()  # type: ignore[attr-defined]
    assert set(range(4)) <= set(shelf.read)
    assert set(shelf.read) <= set(range(4 * (1 + AHEAD)))
    assert set(shelf.read.values()) == {1}
    assert not any(thread.name.startswith("pictures") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_is_passed_on(workers: int) -> None:
    def load(row: int) -> Image.Image:
        if row == 11:
            raise OSError("image 11 is gone")
        return Shelf()(row)

    with pytest.raises(OSError, match="image 11 is gone"):
        list(batches(Pictures(load, 20, SIDE), np.arange(20), 4, workers=workers))
    assert not any(thread.name.startswith("pictures") for thread in threading.enumerate())


def learner() -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    questions = ask(two_controls(8), np.ones(8, dtype=bool), CPU, weighted=False)
    return Learner(Backbone("small", "small-0-8px", 6, SIDE, network), questions, CPU)


@pytest.mark.parametrize("workers", [0, 2])
def test_features_of_mirrored_pictures_cost_no_second_decode(workers: int) -> None:
    shelf, rows = Shelf(), np.arange(3, 90)
    flags = rows % 3 == 0
    found, mirrored = features_both_ways(
        learner(), pictures(shelf, 90, kept=False), rows, flags, workers=workers
    )
    assert shelf.read == Counter(rows.tolist())

    def flipped(row: int) -> Image.Image:
        return shelf(row).transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    wanted = features_of(learner(), Pictures(flipped, 90, SIDE), rows)
    np.testing.assert_allclose(mirrored[flags], wanted[flags], rtol=0.02, atol=0.02)
    assert np.abs(found[flags] - wanted[flags]).max() > 0.1
    assert (mirrored[~flags] == 0).all()
    alone = features_of(learner(), pictures(Shelf(), 90, kept=True), rows)
    np.testing.assert_allclose(found, alone, rtol=1e-6, atol=1e-6)
