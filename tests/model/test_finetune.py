from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from model.backbones import Backbone
from model.errors import ArgumentError
from model.finetune import (
    Cancelled,
    ControlLabels,
    FineTuned,
    FineTuneOptions,
    FineTuneProgress,
    TrainingDiverged,
    finetune,
)

SIDE = 16
OPTIONS = FineTuneOptions(
    epochs=3, batch_size=16, backbone_rate=0.01, head_rate=0.01, augmentation="characters", seed=4
)


@pytest.fixture
def backbone() -> Backbone:
    return small_backbone()


def small_backbone() -> Backbone:
    """A network of 8 features; the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    return Backbone("small", "small-0-16px", 8, SIDE, network.eval().requires_grad_(False))


def stripes(targets: NDArray[Any], seed: int = 0) -> NDArray[np.uint8]:
    """(n, s, s, 3): diagonal stripes from the lower left (0) or the upper left (1), any phase and
    colour, so that only the direction tells, and a mirror turns one into the other."""
    generator = np.random.default_rng(seed)
    down, right = np.mgrid[:SIDE, :SIDE]
    images = np.empty((len(targets), SIDE, SIDE, 3))
    for image, target in zip(images, targets, strict=True):
        along = right + down if target == 0 else right - down
        wave = np.sin(along * 1.6 + generator.uniform(0, 6.28))
        image[:] = 128 + 60 * wave[..., None] * generator.choice([-1, 1], 3)
        image += generator.normal(0, 12, image.shape)
    return images.clip(0, 255).astype(np.uint8)


TARGETS = np.arange(80) % 2
IMAGES = stripes(TARGETS)


def load_stripes(row: int) -> Image.Image:
    return Image.fromarray(IMAGES[row])


def kinds(targets: NDArray[Any] = TARGETS) -> list[ControlLabels]:
    return [
        ControlLabels("kind", ("up", "down"), False, targets, np.ones(len(targets), dtype=bool))
    ]


def tune(backbone: Backbone, options: FineTuneOptions = OPTIONS, **more: Any) -> FineTuned:
    return finetune(backbone, load_stripes, kinds(), options, device="cpu", **more)


def same(first: FineTuned, second: FineTuned) -> bool:
    one, other = first.network.state_dict(), second.network.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_it_learns_what_the_untouched_network_does_not_tell(backbone: Backbone) -> None:
    before = {k: v.clone() for k, v in backbone.network.state_dict().items()}
    found = tune(backbone, replace(OPTIONS, epochs=12, patience=12))
    first, best = found.epochs[0], found.epochs[found.best_epoch]
    assert found.best_epoch > 0
    assert best.loss < first.loss - 0.2
    assert best.accuracy >= first.accuracy
    assert not found.network.training
    assert not any(p.requires_grad for p in found.network.parameters())
    after = backbone.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_watched_rows_are_a_share_with_the_same_mix(backbone: Backbone) -> None:
    found = tune(backbone, replace(OPTIONS, epochs=1, validation_share=0.2))
    assert found.trained.sum() == 64
    assert TARGETS[~found.trained].mean() == 0.5


def test_the_best_epoch_is_the_one_with_the_least_loss(backbone: Backbone) -> None:
    found = tune(backbone)
    assert found.epochs[found.best_epoch].loss == min(report.loss for report in found.epochs)
    assert [report.epoch for report in found.epochs] == [0, 1, 2, 3]


def test_equal_calls_give_equal_weights_whatever_the_workers(backbone: Backbone) -> None:
    first = tune(backbone, workers=0)
    assert same(first, tune(backbone, workers=0))
    assert same(first, tune(backbone, workers=2))
    assert not same(first, tune(backbone, replace(OPTIONS, seed=5), workers=0))


@pytest.mark.parametrize("stop_at", [(1, 1), (2, 3), (3, 2)])
def test_a_stopped_one_goes_on_to_the_same_result(
    backbone: Backbone, tmp_path: Path, stop_at: tuple[int, int]
) -> None:
    seen: list[tuple[int, int]] = []
    calls = {"steps": 0}
    steps_before = (stop_at[0] - 1) * 5 + stop_at[1]

    def cancelled() -> bool:
        # Reading images and fitting the probe ask, too; only steps count here.
        calls["steps"] += 1
        return calls["steps"] > 80 + 1 + steps_before

    with pytest.raises(Cancelled):
        tune(backbone, checkpoint=tmp_path, cancelled=cancelled)

    def note(progress: FineTuneProgress) -> None:
        seen.append((progress.epoch, progress.step))

    resumed = tune(backbone, checkpoint=tmp_path, on_progress=note)
    assert same(resumed, tune(backbone))
    finished = {epoch for epoch, step in seen if step == 5}
    assert finished == set(range(stop_at[0], 4))


def test_another_calls_checkpoint_is_not_used(backbone: Backbone, tmp_path: Path) -> None:
    tune(backbone, replace(OPTIONS, seed=9), checkpoint=tmp_path)
    assert same(tune(backbone, checkpoint=tmp_path), tune(backbone))


def test_a_damaged_checkpoint_starts_anew(backbone: Backbone, tmp_path: Path) -> None:
    tune(backbone, replace(OPTIONS, epochs=2), checkpoint=tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:500])
    options = replace(OPTIONS, epochs=2)
    assert same(tune(backbone, options, checkpoint=tmp_path), tune(backbone, options))


def test_it_stops_when_nothing_gets_better(backbone: Backbone) -> None:
    found = tune(backbone, replace(OPTIONS, epochs=9, patience=2, backbone_rate=0, head_rate=0))
    # Nothing moves: equal losses, of which the last counts, would never stop it; but batch
    # normalisation may not move either.
    assert {report.loss for report in found.epochs} == {found.epochs[0].loss}
    worse = tune(
        backbone, replace(OPTIONS, epochs=9, patience=2, backbone_rate=0.9, optimiser="sgd")
    )
    assert worse.epochs[-1].epoch - worse.best_epoch <= 2


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "sgd", "backbone_rate": 0.05},
        {"balance": "sampler"},
        {"balance": "none", "label_smoothing": 0.1, "mixup": 0.2},
        {"frozen_statistics": False},
        {"probe_first": False, "augmentation": "photos"},
    ],
)
def test_every_way_of_learning_learns(backbone: Backbone, changes: dict[str, Any]) -> None:
    found = tune(backbone, replace(OPTIONS, epochs=2, **changes))
    losses = [report.training_loss for report in found.epochs[1:]]
    assert all(loss is not None and np.isfinite(loss) for loss in losses)
    state = found.network.state_dict()
    assert all(bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point())


def test_single_and_multiple_controls_learn_together(backbone: Backbone) -> None:
    known = np.arange(80) % 4 != 0
    marks = np.stack([TARGETS == 1, np.arange(80) % 5 == 0], axis=1)
    labels = [
        ControlLabels("kind", ("up", "down", "never"), False, TARGETS, known),
        ControlLabels("marks", ("falling", "fifth"), True, marks, ~known | (TARGETS == 1)),
    ]
    options = replace(OPTIONS, epochs=10, patience=10, seed=6)
    found = finetune(backbone, load_stripes, labels, options, device="cpu")
    assert found.epochs[found.best_epoch].loss < found.epochs[0].loss


def best_augmentation(backbone: Backbone, load: Callable[[int], Image.Image], n: int) -> str:
    options = replace(OPTIONS, epochs=1, augmentation="auto", validation_share=0.5)
    labels = kinds(np.arange(n) % 2)
    return finetune(backbone, load, labels, options, device="cpu").augmentation


def test_images_that_a_mirror_turns_into_another_class_are_not_mirrored() -> None:
    class Directions(nn.Module):
        """Features that tell where a picture is bright: left, right, up, down."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            half = SIDE // 2
            parts = [
                inputs[..., :half], inputs[..., half:], inputs[..., :half, :], inputs[..., half:, :]
            ]  # fmt: skip
            return torch.stack([p.mean(dim=(1, 2, 3)) for p in parts], dim=1) * self.scale

    directions = Backbone("sides", "sides-0-16px", 4, SIDE, Directions().eval())

    def sideways(row: int) -> Image.Image:
        pixels = np.full((SIDE, SIDE, 3), 40 + row % 7, dtype=np.uint8)
        half = slice(0, SIDE // 2) if row % 2 else slice(SIDE // 2, None)
        pixels[:, half] = 200
        return Image.fromarray(pixels)

    def upright(row: int) -> Image.Image:
        return sideways(row).rotate(90)

    assert best_augmentation(directions, sideways, 80) == "characters"
    assert best_augmentation(directions, upright, 80) == "photos"
    # Too few to tell: nothing is mirrored.
    assert best_augmentation(directions, upright, 40) == "characters"


def test_progress_says_where_it_is(backbone: Backbone) -> None:
    seen: list[FineTuneProgress] = []
    tune(backbone, on_progress=seen.append)
    last = seen[-1]
    assert (last.phase, last.epoch, last.epochs, last.step, last.steps) == ("training", 3, 3, 5, 5)
    assert last.eta_seconds == 0.0
    assert last.validation_loss is not None
    assert last.seconds >= 0


def test_a_loss_that_is_no_number_is_said(backbone: Backbone) -> None:
    options = replace(OPTIONS, optimiser="sgd", backbone_rate=1e30, head_rate=1e30, epochs=5)
    with pytest.raises(TrainingDiverged, match="Use a lower learning rate"):
        tune(backbone, options)


def test_a_broken_image_is_passed_on(backbone: Backbone) -> None:
    def broken(row: int) -> Image.Image:
        if row == 7:
            raise OSError("image 7 is gone")
        return load_stripes(row)

    with pytest.raises(OSError, match="image 7 is gone"):
        finetune(backbone, broken, kinds(), OPTIONS, device="cpu")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "labels is empty"),
        (kinds(np.zeros(19, dtype=int)), "at least 20"),
        (kinds(np.zeros(30, dtype=int)), "no control with labels of two classes"),
        ([*kinds(TARGETS[:30]), *kinds(TARGETS[:40])], r"about \[30, 40\] images"),
    ],
)
def test_labels_that_nothing_can_be_learned_from(
    backbone: Backbone, labels: list[ControlLabels], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        finetune(backbone, load_stripes, labels, OPTIONS, device="cpu")


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"patience": 0},
        {"batch_size": 1},
        {"backbone_rate": -1.0},
        {"head_rate": float("nan")},
        {"label_smoothing": 1.0},
        {"momentum": 1.0},
        {"validation_share": 0.0},
        {"validation_share": 0.6},
        {"augmentation": "flip"},
        {"augmentation_strength": 4.0},
        {"optimiser": "lbfgs"},
        {"balance": "both"},
        {"seed": -1},
    ],
)
def test_an_option_that_is_not_allowed_is_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        FineTuneOptions(**bad)
