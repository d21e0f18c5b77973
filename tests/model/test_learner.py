from __future__ import annotations

import copy
from math import log

import numpy as np
import pytest
import torch
from torch import nn

from model.backbones import Backbone
from model.control_labels import ControlLabels
from model.learner import Learner, Objective, Question, ask, probe, trainable_copy
from model.stepper import Stepper

CPU = torch.device("cpu")


def small_network(*, pixels_at_once: int | None = None) -> nn.Module:
    """(n, 3, s, s) -> (n, 6); as on a small GPU, where ``pixels_at_once`` images fit."""

    class Limited(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if pixels_at_once is not None and len(inputs) > pixels_at_once:
                raise torch.OutOfMemoryError("no memory is left")
            return inputs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            Limited(),
            nn.Conv2d(3, 6, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def backbone(network: nn.Module) -> Backbone:
    return Backbone("small", "small-0-8px", 6, 8, network.eval().requires_grad_(False))


def pictures(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)


def two_controls(n: int) -> list[ControlLabels]:
    rows = np.arange(n)
    known = rows % 5 != 0
    flags = np.stack([rows % 2 == 0, rows % 3 == 0], axis=1)
    return [
        ControlLabels("kind", ("a", "b", "c"), False, rows % 3, known),
        ControlLabels("marks", ("x", "y"), True, flags, np.ones(n, dtype=bool)),
    ]


def question(wanted: list[list[float]], *, multiple: bool = False) -> Question:
    array = torch.tensor(wanted)
    n, c = array.shape
    return Question(multiple, np.arange(c), array, torch.ones(n), torch.ones(c))


def test_questions_leave_out_what_cannot_be_learned() -> None:
    trained = np.array([True] * 4 + [False] * 2)
    lone = ControlLabels("lone", ("a", "b"), False, np.zeros(6, dtype=int), np.ones(6, dtype=bool))
    missing = ControlLabels(
        "kind", ("a", "b", "c"), False, np.array([0, 2, 0, 2, 1, 0]), np.ones(6, dtype=bool)
    )
    found = ask([lone, missing], trained, CPU, weighted=True)
    assert [q.columns.tolist() for q in found] == [[0, 2]]
    # The fifth row's class is not among the classes that can be learned.
    assert found[0].known.tolist() == [1, 1, 1, 1, 0, 1]
    assert found[0].weights.tolist() == [1.0, 1.0]


def test_a_smoothed_loss_by_hand() -> None:
    objective = Objective([question([[1.0, 0.0], [0.0, 1.0]])], label_smoothing=0.2, mixup=0.0)
    rows = torch.tensor([0, 1])
    logits = torch.tensor([[log(3.0), 0.0], [0.0, 0.0]])
    # Row 1: p = 3/4, 1/4 with the truth 0.9, 0.1; row 2: both 1/2.
    first = -(0.9 * log(0.75) + 0.1 * log(0.25))
    found = objective.loss([logits], rows, rows, 1.0, 1 / 2)
    assert float(found) == pytest.approx((first + log(2)) / 2, rel=1e-6)


def test_a_mixed_loss_by_hand() -> None:
    objective = Objective([question([[1.0, 0.0], [0.0, 1.0]])], label_smoothing=0.0, mixup=1.0)
    logits = torch.tensor([[log(3.0), 0.0]])
    found = objective.loss([logits], torch.tensor([0]), torch.tensor([1]), 0.7, 1.0)
    assert float(found) == pytest.approx(-(0.7 * log(0.75) + 0.3 * log(0.25)), rel=1e-6)


def test_unknown_rows_cost_nothing_and_weights_count() -> None:
    asked = question([[1.0, 0.0], [0.0, 1.0]])
    asked.known[1] = 0
    asked.weights[0] = 3.0
    rows = torch.tensor([0, 1])
    found = Objective([asked], 0.0, 0.0).loss([torch.zeros(2, 2)], rows, rows, 1.0, 1.0)
    assert float(found) == pytest.approx(3 * log(2))


def test_a_loss_of_flags_is_the_mean_over_the_classes() -> None:
    asked = question([[1.0, 0.0]], multiple=True)
    asked.weights[0] = 2.0
    logits = torch.tensor([[log(3.0), 0.0]])
    row = torch.tensor([0])
    found = Objective([asked], 0.0, 0.0).loss([logits], row, row, 1.0, 1.0)
    assert float(found) == pytest.approx((-2 * log(0.75) + log(2)) / 2, rel=1e-6)


def test_mixed_pictures_are_weighted_means() -> None:
    objective = Objective([], 0.0, 0.4)
    images = pictures(4)
    seen, partners, share = objective.mixed(images, np.random.default_rng(0))
    assert 0.5 <= share <= 1
    wanted = share * images.float() + (1 - share) * images[partners].float()
    assert torch.equal(seen, wanted.round().to(torch.uint8))


def gradients_of(network: nn.Module, at_once: int) -> tuple[float, list[torch.Tensor], int]:
    labels = two_controls(12)
    questions = ask(labels, np.ones(12, dtype=bool), CPU, weighted=True)
    learner = Learner(backbone(network), questions, CPU)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for head in learner.heads:
            nn.init.normal_(head.weight)  # type: ignore[arg-type]
    stepper = Stepper(learner, Objective(questions, 0.1, 0.3), at_once)
    loss = float(stepper.gradients(np.arange(12), pictures(12), np.random.default_rng(2)))
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    return loss, gradients, stepper.at_once


def test_when_memory_runs_out_the_step_stays_that_of_the_whole_batch() -> None:
    loss, gradients, at_once = gradients_of(small_network(), 12)
    less, parts, halved = gradients_of(small_network(pixels_at_once=4), 12)
    assert (at_once, halved) == (12, 3)
    assert less == pytest.approx(loss, rel=1e-3)
    for whole, part in zip(gradients, parts, strict=True):
        # The network runs in 16 bits where that is fast.
        torch.testing.assert_close(part, whole, rtol=0.02, atol=0.02)


def test_memory_that_not_even_one_image_fits_into_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        gradients_of(small_network(pixels_at_once=0), 4)


def test_the_probe_tells_apart_what_the_features_tell_apart() -> None:
    rows = np.arange(60)
    labels = [ControlLabels("kind", ("a", "b", "c"), False, rows % 3, np.ones(60, dtype=bool))]
    questions = ask(labels, np.ones(60, dtype=bool), CPU, weighted=False)
    learner = Learner(backbone(small_network()), questions, CPU)
    features = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    features[rows, rows % 3] += 4
    probe(learner, features, questions, np.ones(60, dtype=bool), seed=0)
    logits = learner.heads[0](torch.from_numpy(features)).detach().numpy()
    assert (logits.argmax(axis=1) == rows % 3).mean() > 0.95


def test_a_copy_learns_and_leaves_the_network_alone() -> None:
    network = small_network().eval().requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    copied = trainable_copy(network)
    assert all(p.requires_grad for p in copied.parameters())
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stay(frozen: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    questions = ask(two_controls(8), np.ones(8, dtype=bool), CPU, weighted=False)
    learner = Learner(backbone(network), questions, CPU, frozen_statistics=frozen)
    mean = learner.backbone[1].running_mean  # type: ignore[index]
    learner.learn()
    learner(pictures(8))
    assert (mean.abs().sum() == 0) == frozen
