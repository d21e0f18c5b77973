from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from model.backbones import FROM_SCRATCH
from model.embed import Embedder
from model.errors import ArgumentError
from model.scratch import SCRATCH, build_scratch

# By hand: convolutions without bias, two numbers per batch-normalised filter, dense with bias.
ALEXNET = (
    (3 * 11 * 11 * 96 + 96 * 5 * 5 * 256 + 9 * (256 * 384 + 384 * 384 + 384 * 256))
    + 2 * (96 + 256 + 384 + 384 + 256)
    + (9216 * 4096 + 4096 + 4096 * 4096 + 4096)
)
SMALL = (
    9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    + 2 * 2 * (64 + 128 + 256)
)  # fmt: skip


def test_names_are_known_to_the_loader() -> None:
    assert tuple(SCRATCH) == FROM_SCRATCH


@pytest.mark.parametrize(
    ("name", "side", "width", "parameters"),
    [("alexnet_bn", 227, 4096, ALEXNET), ("small_cnn", 32, 256, SMALL)],
)
def test_shape_and_size(name: str, side: int, width: int, parameters: int) -> None:
    backbone = build_scratch(name, 0)
    assert (backbone.name, backbone.identity) == (name, f"{name}-scratch-{side}px")
    assert (backbone.width, backbone.input_size) == (width, side)
    assert sum(p.numel() for p in backbone.network.parameters()) == parameters
    assert all(p.requires_grad for p in backbone.network.parameters())
    assert not backbone.network.training
    embeddings = Embedder(backbone, device="cpu").embed([Image.new("RGB", (40, 30), "red")])
    assert embeddings.shape == (1, width)


def test_alexnets_maps_have_the_published_sides() -> None:
    sides = []
    maps = torch.zeros(1, 3, 227, 227)
    with torch.inference_mode():
        for layer in build_scratch("alexnet_bn", 0).network:  # type: ignore[attr-defined]
            maps = layer(maps)
            if isinstance(layer, torch.nn.Conv2d | torch.nn.MaxPool2d):
                sides.append((maps.shape[1], maps.shape[2]))
    assert sides == [(96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13),
                     (256, 6)]  # fmt: skip


@pytest.mark.parametrize(("name", "sides"), [("alexnet_bn", (67, 224)), ("small_cnn", (8, 28, 96))])
def test_other_sizes(name: str, sides: tuple[int, ...]) -> None:
    for side in sides:
        backbone = build_scratch(name, 0, input_size=side)
        with torch.inference_mode():
            embeddings = backbone.network(torch.randn(2, 3, side, side))
        assert backbone.identity == f"{name}-scratch-{side}px"
        assert embeddings.shape == (2, backbone.width)
        assert float(embeddings.std()) > 0


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_scratch("small_cnn", seed).network for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [dict(network.named_parameters()) for network in (first, again, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["0.weight"], weights[2]["0.weight"])


def test_the_small_network_learns_below_a_linear_head() -> None:
    # Noise with more red or more blue in it: the loss on pictures not seen before falls.
    numbers = np.random.default_rng(0)
    pixels = torch.tensor(numbers.normal(size=(12, 16, 3, 32, 32)), dtype=torch.float32)
    targets = torch.arange(16) % 2
    pixels[:, targets == 0, 0] += 1
    pixels[:, targets == 1, 2] += 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_scratch("small_cnn", 0).network.train()
        together = torch.nn.Sequential(network, torch.nn.Linear(256, 2))
        optimiser = torch.optim.SGD(together.parameters(), lr=0.01, momentum=0.9)
        losses = []
        for batch in pixels:
            loss = torch.nn.functional.cross_entropy(together(batch), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [
        ("resnet18", None, "name='resnet18'; one of alexnet_bn, small_cnn"),
        ("alexnet_bn", 66, "input_size=66; 67 to 512 pixels is allowed for alexnet_bn"),
        ("small_cnn", 7, "input_size=7; 8 to 512"),
        ("small_cnn", 513, "input_size=513; 8 to 512"),
    ],
)
def test_bad_arguments(name: str, side: int | None, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        build_scratch(name, 0, input_size=side)
