"""Each way of transfer learns what it should, from what it should, and says what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.augment import augmentation
from model.backbones import Backbone, load_backbone
from model.embed import Embedder
from model.embed_images import changed_copy, embed_images, embed_with_mirrors
from model.epoch_clock import EpochClock
from model.errors import ArgumentError
from model.finetune import Cancelled, FineTuneProgress
from model.finetune_options import FineTuneOptions
from model.head import fit_head
from model.metrics import accuracy
from model.transfer import COPIES, MODES, TransferOptions, Transferred, transfer

CLASSES = ("circle", "stripes", "dark")
SIDE = 32
MOBILENET_V3_SMALL = 927_008
"""Numbers in torchvision's mobilenet_v3_small without its classifier."""


@dataclass(frozen=True)
class Shapes:
    """Noisy grey shapes; ``sided`` puts the class on the left or on the right instead."""

    targets: NDArray[np.int64]
    seed: int
    sided: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, position: int) -> Image.Image:
        generator = np.random.default_rng([self.seed, position])
        pixels = generator.normal(110, 25, (SIDE, SIDE, 3))
        target = self.targets[position]
        rows, columns = np.mgrid[:SIDE, :SIDE]
        if self.sided:
            pixels[(columns < SIDE // 2) == (target == 0)] += 120
        elif target == 0:
            pixels[(rows - 16) ** 2 + (columns - 16) ** 2 < 90] += 110
        elif target == 1:
            pixels[rows % 8 < 4] += 90
        else:
            pixels -= 60
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def shapes(per_class: int, seed: int, classes: int = 3, sided: bool = False) -> Shapes:
    return Shapes(np.tile(np.arange(classes), per_class), seed, sided)


TRAIN, TEST = shapes(30, 1), shapes(20, 2)
OPTIONS = FineTuneOptions(epochs=2, batch_size=16, backbone_rate=1e-3)


@pytest.fixture(scope="module")
def backbone(seeded_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(
        "mobilenet_v3_small",
        input_size=SIDE,
        weights_dir=seeded_weights,
        cache_dir=tmp_path_factory.mktemp("cache"),
    )


def run(mode: str, backbone: Backbone, **changes: object) -> Transferred:
    options = TransferOptions(mode, replace(OPTIONS, **changes))  # type: ignore[arg-type]
    return transfer(options, backbone, TRAIN, TEST, CLASSES, device="cpu")


@pytest.mark.parametrize("mode", MODES)
def test_each_way_learns_and_says_what_it_cost(mode: str, backbone: Backbone) -> None:
    done = run(mode, backbone)
    assert done.probabilities.shape == (60, 3)
    assert accuracy(done.probabilities, TEST.targets) > 0.8
    head = 3 * (576 + 1)
    assert done.parameters == MOBILENET_V3_SMALL + head
    tuned = mode in ("finetune", "scratch")
    assert done.trainable == (done.parameters if tuned else head)
    assert done.epochs == (2 if tuned else 1)
    assert (done.best_epoch is not None) == tuned
    assert done.seconds_per_epoch is not None
    assert 0 < done.seconds_per_epoch <= done.seconds


@pytest.mark.parametrize("mode", MODES)
def test_equal_arguments_give_equal_probabilities(mode: str, backbone: Backbone) -> None:
    first, second = (run(mode, backbone, epochs=1).probabilities for _ in range(2))
    assert (first == second).all()


def test_features_are_a_head_on_the_embeddings_of_the_backbone(backbone: Backbone) -> None:
    embedder = Embedder(backbone, device="cpu")
    own, judged = (
        embedder.embed([part.load(i) for i in range(len(part))]) for part in (TRAIN, TEST)
    )
    head = fit_head(own, TRAIN.targets, classes=CLASSES, multiple=False, seed=0).head
    found = run("features", backbone)
    assert np.allclose(found.probabilities, head.probabilities(judged), atol=1e-5)
    assert found.augmentation == "none"


def test_changed_copies_teach_and_are_not_tested_on(backbone: Backbone) -> None:
    found = run("features+augment", backbone, augmentation="photos")
    assert found.head.metrics["n"] == len(TRAIN) * (1 + COPIES)
    assert found.head.metrics["tested"] == len(TRAIN)
    assert found.augmentation == "photos"


def test_without_augmentation_there_are_no_copies(backbone: Backbone) -> None:
    plain = run("features", backbone).probabilities
    found = run("features+augment", backbone, augmentation="none")
    assert np.allclose(found.probabilities, plain, atol=1e-5)


def test_rows_that_tuned_the_backbone_do_not_calibrate_the_head(backbone: Backbone) -> None:
    found = run("scratch", backbone, validation_share=0.2)
    assert found.best_epoch
    assert found.head.metrics["tested"] == 18


@pytest.mark.parametrize(("sided", "wanted"), [(False, "photos"), (True, "characters")])
def test_what_is_known_mirrored_may_be_mirrored(
    backbone: Backbone, sided: bool, wanted: str
) -> None:
    train, test = (shapes(60, seed, classes=2, sided=sided) for seed in (3, 4))
    options = TransferOptions("features+augment")
    done = transfer(options, backbone, train, test, ("a", "b"), device="cpu")
    assert done.augmentation == wanted


def test_progress_epochs_and_cancelling(backbone: Backbone) -> None:
    told: list[tuple[str, int, int]] = []
    epochs: list[tuple[int, float]] = []
    done = transfer(
        TransferOptions("finetune", OPTIONS),
        backbone,
        TRAIN,
        TEST,
        CLASSES,
        device="cpu",
        on_progress=lambda *now: told.append(now),
        on_epoch=lambda *now: epochs.append(now),
    )
    assert [epoch for epoch, _ in epochs] == list(range(1, done.epochs + 1))
    assert all(0 <= at <= of for _, at, of in told)
    assert told[-1] == ("embedding test images", 60, 60)
    with pytest.raises(Cancelled):
        transfer(
            TransferOptions("finetune", OPTIONS),
            backbone,
            TRAIN,
            TEST,
            CLASSES,
            device="cpu",
            cancelled=lambda: True,
        )


def test_a_stopped_fine_tune_goes_on_to_the_same_result(backbone: Backbone, tmp_path: Path) -> None:
    seen: list[int] = []

    def stop_after_the_first(epoch: int, loss: float) -> None:
        seen.append(epoch)

    options = TransferOptions("finetune", replace(OPTIONS, epochs=3))
    with pytest.raises(Cancelled):
        transfer(
            options,
            backbone,
            TRAIN,
            TEST,
            CLASSES,
            device="cpu",
            checkpoint=tmp_path / "kept",
            on_epoch=stop_after_the_first,
            cancelled=lambda: bool(seen),
        )
    whole = run("finetune", backbone, epochs=3).probabilities
    resumed = transfer(
        options, backbone, TRAIN, TEST, CLASSES, device="cpu", checkpoint=tmp_path / "kept"
    )
    assert (resumed.probabilities == whole).all()


def test_another_way_is_refused() -> None:
    with pytest.raises(ArgumentError, match="mode='magic'; one of features, features"):
        TransferOptions("magic")  # type: ignore[arg-type]


def test_images_are_embedded_in_their_order(backbone: Backbone) -> None:
    embedder = Embedder(backbone, device="cpu", batch_size=7)
    told: list[int] = []
    found = embed_images(embedder, TEST, "x", lambda what, done, total: told.append(done))
    alone = Embedder(backbone, device="cpu").embed([TEST.load(i) for i in range(60)])
    assert np.allclose(found, alone, atol=2e-2)
    assert told == [*range(7, 60, 7), 60]


def test_mirrors_cost_no_second_look_at_an_image(backbone: Backbone) -> None:
    loaded: Counter[int] = Counter()

    class Counted:
        targets = TEST.targets

        def __len__(self) -> int:
            return len(TEST)

        def load(self, position: int) -> Image.Image:
            loaded[position] += 1
            return TEST.load(position)

    flags = np.arange(60) % 3 == 1
    embedder = Embedder(backbone, device="cpu", batch_size=7)
    own, mirrored = embed_with_mirrors(embedder, Counted(), flags, "x", lambda *_: None)
    assert loaded == Counter(range(60))
    wanted = embedder.embed([TEST.load(i) for i in range(60)])
    assert np.allclose(own, wanted, atol=2e-2)
    flipped = [
        TEST.load(int(i)).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for i in np.flatnonzero(flags)
    ]
    assert np.allclose(mirrored, embedder.embed(flipped), atol=2e-2)
    assert np.abs(mirrored.astype(float) - own[flags]).max() > 0.05


def test_a_changed_copy_depends_on_its_seed_alone() -> None:
    change = augmentation("photos")
    state = torch.random.get_rng_state()
    image = TRAIN.load(0)
    copies = [
        np.asarray(changed_copy(image, 24, change, seed)) for seed in ((0, 1), (0, 1), (0, 2))
    ]
    assert copies[0].shape == (24, 24, 3)
    assert (copies[0] == copies[1]).all()
    assert (copies[0] != copies[2]).any()
    assert torch.equal(torch.random.get_rng_state(), state)


def at(
    phase: str, epoch: int, step: int, seconds: float, loss: float | None = None
) -> FineTuneProgress:
    return FineTuneProgress(phase, epoch, 3, step, 4, seconds, validation_loss=loss)  # type: ignore[arg-type]


def test_the_clock_takes_the_last_word_of_an_epoch() -> None:
    epochs: list[tuple[int, float]] = []
    clock = EpochClock(lambda what, done, total: None, lambda *now: epochs.append(now))
    assert clock.seconds_per_epoch is None
    clock(at("reading images", 0, 4, 1.0))
    clock(at("fitting the probe", 0, 4, 2.0))
    clock(at("training", 1, 2, 4.0, 0.9))
    clock(at("training", 1, 4, 5.0, 0.9))  # before the watched rows are judged
    clock(at("training", 1, 4, 6.0, 0.7))
    assert epochs == []
    clock(at("training", 2, 4, 9.0, 0.5))
    assert epochs == [(1, 0.7)]
    clock.flush()
    clock.flush()
    assert epochs == [(1, 0.7), (2, 0.5)]
    assert clock.seconds_per_epoch == 3.5
