from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import Ridge

from model.backbones import Backbone, load_backbone
from model.embed import Embedder
from model.errors import ArgumentError
from model.explain import (
    class_logit,
    grad_cam,
    lime_superpixels,
    raw_grad_cam,
    weighted_ridge,
)
from model.head import Head

SIDE = 64
LEFT, RIGHT = 0, 1


class Halves(torch.nn.Module):
    """Two channels: how bright the left half of an image is, and how bright the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.AvgPool2d(8)
        sides = torch.zeros(1, 2, 8, 8)
        sides[0, LEFT, :, :4] = 1
        sides[0, RIGHT, :, 4:] = 1
        self.register_buffer("sides", sides)
        self.last = torch.nn.ReLU()
        self.mean = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        bright = self.cells(inputs.mean(dim=1, keepdim=True)) + 2.2
        return torch.flatten(self.mean(self.last(bright * self.sides)), 1)


@pytest.fixture
def halves() -> Backbone:
    return Backbone("halves", "halves-00000000-64px", 2, SIDE, Halves().eval())


def head_of(weights: list[list[float]], bias: list[float] | None = None) -> Head:
    array = np.array(weights, dtype=np.float32)
    k = array.shape[1]
    names = ("left", "right", "absent", "more")[:k]
    offset = np.array(bias or [0.0] * k, dtype=np.float32)
    return Head(names, False, array, offset, np.ones(1, dtype=np.float32))


SIDES = head_of([[1.0, -1.0], [-1.0, 1.0]])


def picture(left: int, right: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    pixels = np.full((size[1], size[0], 3), left, dtype=np.uint8)
    pixels[:, size[0] // 2 :] = right
    return Image.fromarray(pixels)


@given(
    arrays(np.float32, (4, 5), elements=st.floats(-4, 4, width=32)),
    arrays(np.float32, (5, 3), elements=st.floats(-4, 4, width=32)),
)
def test_the_class_logit_is_the_heads(
    embeddings: NDArray[np.float32], weights: NDArray[np.float32]
) -> None:
    head = head_of(weights.tolist(), [0.5, -1.0, 0.0])
    for row, wanted in zip(embeddings, head.logits(embeddings), strict=True):
        found = [float(class_logit(torch.from_numpy(row), head, j)) for j in range(3)]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_slope_of_the_class_logit_is_the_slope_of_the_heads() -> None:
    head = head_of([[1.0, -2.0], [0.5, 0.0], [-1.5, 1.0]])
    row = np.array([0.7, -0.3, 1.1])
    tensor = torch.from_numpy(row.copy()).requires_grad_(True)
    class_logit(tensor, head, 0).backward()

    def logit(x: NDArray[np.float64]) -> float:
        rooted = np.sign(x) * np.sqrt(np.abs(x))
        return float(rooted @ head.weights[:, 0] / np.linalg.norm(rooted))

    step = 1e-6 * np.eye(3)
    slopes = [(logit(row + e) - logit(row - e)) / 2e-6 for e in step]
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), slopes, rtol=1e-4, atol=1e-5)


def test_a_channel_without_activity_has_no_slope() -> None:
    tensor = torch.tensor([0.0, 2.0, 0.0], requires_grad=True)
    class_logit(tensor, head_of([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), 0).backward()
    assert tensor.grad is not None
    assert torch.isfinite(tensor.grad).all()
    assert tensor.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("position", "side"), [(LEFT, LEFT), (RIGHT, RIGHT)])
def test_grad_cam_finds_the_half_that_a_class_depends_on(
    halves: Backbone, position: int, side: int
) -> None:
    heat = grad_cam(halves, SIDES, position, picture(200, 200, (128, 32)))
    assert heat.shape == (32, 128)
    assert heat.dtype == np.float32
    own, other = (heat[:, :64], heat[:, 64:])[:: 1 if side == LEFT else -1]
    # Interpolation blurs the border by half a cell, 8 of the 128 columns.
    far, near = (slice(8, None), slice(None, -8))[:: 1 if side == LEFT else -1]
    np.testing.assert_allclose(own[:, near], 1.0, atol=1e-5)
    np.testing.assert_allclose(other[:, far], 0.0, atol=1e-6)


def test_raw_grad_cam_by_hand(halves: Backbone) -> None:
    """Both means are v/2, so r = (1, 1)/√2 and ∂(r₀ - r₁)/∂x₀ = 1/(√2 v); the slope of a mean of
    64 cells is 1/64 of it, and the map is v times that."""
    raw = raw_grad_cam(halves, SIDES, LEFT, picture(200, 200))
    expected = np.full((8, 8), 1 / (64 * np.sqrt(2)))
    expected[:, 4:] *= -1
    np.testing.assert_allclose(raw, expected, rtol=1e-4)


def test_raw_grad_cam_sums_to_zero(halves: Backbone) -> None:
    raw = raw_grad_cam(halves, SIDES, LEFT, picture(90, 230))
    assert abs(raw.sum()) < 1e-5 * np.abs(raw).sum()
    assert raw[:, :4].min() > 0 > raw[:, 4:].max()


def test_grad_cam_of_a_class_without_weights_is_empty(halves: Backbone) -> None:
    head = head_of([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]], [0, 0, -1e4])
    heat = grad_cam(halves, head, 2, picture(100, 200))
    assert heat.shape == (SIDE, SIDE)
    assert not heat.any()


def test_grad_cam_leaves_the_network_as_it_was(halves: Backbone) -> None:
    before = halves.network(torch.zeros(1, 3, SIDE, SIDE))
    grad_cam(halves, SIDES, LEFT, picture(100, 200))
    assert not any(part._forward_hooks for part in halves.network.modules())
    assert torch.equal(halves.network(torch.zeros(1, 3, SIDE, SIDE)), before)


def test_lime_finds_the_half_that_a_class_depends_on(halves: Backbone) -> None:
    image = picture(255, 255, (96, 48))
    # Black in the middle, so that the mean colour is another one than what is hidden.
    image.paste((0, 0, 0), (36, 0, 60, 48))
    found = lime_superpixels(
        image, Embedder(halves, device="cpu").embed, SIDES, LEFT, side=SIDE,
        generator=np.random.default_rng(0), samples=400, superpixels=16,
    )  # fmt: skip
    assert found.segments.shape == (48, 96)
    assert set(np.unique(found.segments)) == set(range(len(found.weights)))
    weights = found.weight_map()
    assert weights[:, :32].min() > 0 > weights[:, 64:].max()
    assert weights[:, :32].mean() > 5 * abs(weights[:, 40:56].mean())
    assert 0.9 < found.fit <= 1


def test_lime_is_for_one_class_what_it_is_against_the_other(halves: Backbone) -> None:
    def weights(position: int) -> NDArray[np.float64]:
        return lime_superpixels(
            picture(255, 60), Embedder(halves, device="cpu").embed, SIDES, position, side=SIDE,
            generator=np.random.default_rng(3), samples=64, superpixels=9,
        ).weights  # fmt: skip

    first = weights(LEFT)
    np.testing.assert_allclose(first, -weights(RIGHT), atol=1e-6)
    assert np.array_equal(first, weights(LEFT)), "the same seed gives the same weights"


@given(st.integers(0, 10**6))
def test_the_ridge_is_scikit_learns(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = (generator.random((12, 4)) < 0.5).astype(np.float64)
    values, weights = generator.normal(size=12), generator.uniform(0.1, 1, 12)
    found, fit = weighted_ridge(rows, values, weights, 1.0)
    model = Ridge(alpha=1.0).fit(rows, values, sample_weight=weights)
    np.testing.assert_allclose(found, model.coef_, atol=1e-9)
    assert fit == pytest.approx(model.score(rows, values, sample_weight=weights))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 2.5, -1.37, 1e4])
def test_what_never_changes_has_no_weights(value: float) -> None:
    generator = np.random.default_rng(0)
    rows = (generator.random((256, 40)) < 0.5).astype(np.float64)
    weights = np.exp(-generator.random(256))
    same = np.full(256, value)
    rounded = same.astype(np.float32) * (1 + generator.choice([0, 1e-7], 256))
    for values in (same, rounded):
        found, fit = weighted_ridge(rows, values, weights, 1.0)
        assert (found == 0).all()
        assert fit == 1.0
    # A change that is small, but no rounding, is explained.
    found, fit = weighted_ridge(rows, same + 0.01 * (1 + abs(value)) * rows[:, 3], weights, 1e-6)
    assert found.argmax() == 3
    assert fit == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_v3_small"])
def test_a_real_architecture(name: str, seeded_weights: object, tmp_path: object) -> None:
    backbone = load_backbone(name, input_size=96, weights_dir=seeded_weights, cache_dir=tmp_path)  # type: ignore[arg-type]
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    head = head_of(generator.normal(size=(backbone.width, 2)).tolist())
    raw = raw_grad_cam(backbone, head, 0, image)
    assert raw.shape == (3, 3)
    assert abs(raw.sum()) < 1e-3 * np.abs(raw).sum()
    heat = grad_cam(backbone, head, 0, image)
    assert (heat.shape, heat.min() >= 0, heat.max()) == ((60, 90), True, 1.0)


def test_what_is_no_class_is_refused(halves: Backbone) -> None:
    with pytest.raises(ArgumentError, match="position=2; 0 to 1 is allowed"):
        grad_cam(halves, SIDES, 2, picture(1, 2))
    with pytest.raises(ArgumentError, match="position=-1"):
        lime_superpixels(
            picture(1, 2), Embedder(halves, device="cpu").embed, SIDES, -1, side=SIDE,
            generator=np.random.default_rng(0),
        )  # fmt: skip


def test_a_head_of_another_backbone_is_refused(halves: Backbone) -> None:
    with pytest.raises(ArgumentError, match="head reads 3 numbers; halves-00000000-64px gives 2"):
        grad_cam(halves, head_of([[1.0, 0.0]] * 3), 0, picture(1, 2))
