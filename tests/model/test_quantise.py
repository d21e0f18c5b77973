"""Convolutions in 8 bits: what is rounded, to what, and when it is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from model.backbones import BACKBONES, build_network
from model.openvino_runtime import (
    NEAR,
    OpenVinoRuntime,
    converted,
    import_openvino,
    shared_core,
)
from model.quantise import CLIPS, best_clip, drawn_pictures, eight_bits_are_fast, quantised

SIDE = 32

needs_fast_8_bits = pytest.mark.skipif(
    not eight_bits_are_fast(), reason="this CPU multiplies 8-bit numbers no faster"
)


def chain(convolutions: int) -> torch.nn.Sequential:
    """Convolutions of 1x1 with ReLU before each, and the mean over the picture."""
    torch.manual_seed(1)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 8, 1)]
    for _ in range(convolutions - 1):
        layers += [torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 1)]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()


def made(network: torch.nn.Module) -> tuple[Any, Any | None]:
    """A network of OpenVINO, and what is made of it."""
    model = converted(import_openvino(), network, SIDE)
    return model, quantised(import_openvino(), shared_core(), model, SIDE)


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ops()]


def test_the_range_with_the_least_squared_error() -> None:
    generator = np.random.default_rng(0)
    for values in (
        generator.exponential(2, 5000).astype(np.float32),
        generator.normal(0, 3, 5000).astype(np.float32),
        np.append(generator.uniform(0, 1, 20_000), 4).astype(np.float32),
    ):
        tried = CLIPS * np.abs(values).max()
        errors = []
        for clip in tried:
            rounded = np.round(np.clip(values, -clip, clip) / clip * 15) * clip / 15
            errors.append(((values - rounded) ** 2).sum())
        chosen = int(np.argmin(np.abs(tried - best_clip(values, 15))))
        assert errors[chosen] <= 1.02 * min(errors)
    # The one far value is clipped: a range four times as wide would cost the others more.
    assert best_clip(values, 15) == pytest.approx(1.0, abs=0.1)
    assert best_clip(np.zeros(3, np.float32), 255) == 1.0


def test_drawn_pictures_are_always_the_same_and_of_four_kinds() -> None:
    pictures = drawn_pictures(8, 64, seed=0)
    assert pictures.shape == (8, 64, 64, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, drawn_pictures(8, 64, seed=0))
    assert (pictures[0] != drawn_pictures(1, 64, seed=1)[0]).mean() > 0.9
    contrast = pictures.astype(float).std(axis=(1, 2, 3))
    edges = np.abs(np.diff(pictures.astype(float), axis=1)).mean(axis=(1, 2, 3))
    for start in (0, 4):
        sharp, blurred, pale, both = range(start, start + 4)
        assert contrast[pale] < contrast[sharp] / 2
        assert contrast[both] < contrast[blurred] / 2
        assert edges[blurred] < edges[sharp] / 2
        assert edges[both] < edges[pale] / 2


def test_the_third_of_six_convolutions_is_rounded_as_by_hand() -> None:
    network = chain(6)
    model, changed = made(network)
    assert changed is not None
    assert "FakeQuantize" not in kinds(model)
    assert kinds(changed).count("FakeQuantize") == 2
    picture = drawn_pictures(1, SIDE, seed=3)
    compiled = shared_core().compile_model(changed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(picture)[0]

    from model.openvino_runtime import _with_pixels

    prepare = _with_pixels(torch.nn.Identity())
    third = network[4]
    assert isinstance(third, torch.nn.Conv2d)
    with torch.inference_mode():
        drawn = prepare(torch.from_numpy(drawn_pictures(16, SIDE, seed=0)))
        clip = best_clip(network[:4](drawn).numpy().ravel(), 255)
        values = network[:4](prepare(torch.from_numpy(picture)))
        values = torch.round(values.clamp(0, clip) / clip * 255) * clip / 255
        largest = third.weight.abs().amax((1, 2, 3), keepdim=True)
        third.weight.copy_(torch.round(third.weight / largest * 127) * largest / 127)
        wanted = network[4:](values).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0.01, atol=0.01 * np.abs(wanted).max())


@pytest.fixture
def network_of(
    seeded_model: Callable[[str], torch.nn.Module],
) -> Callable[[str], torch.nn.Module]:
    """A pretrained network's build, with seeded weights."""

    def build(name: str) -> torch.nn.Module:
        return build_network(BACKBONES[name], seeded_model(name).state_dict(), source="seeded")

    return build


def test_what_would_gain_nothing_or_lose_too_much_is_left_alone(
    network_of: Callable[[str], torch.nn.Module],
) -> None:
    assert made(chain(2))[1] is None
    assert made(network_of("mobilenet_v2"))[1] is None


@needs_fast_8_bits
def test_a_resnet_runs_in_8_bits_and_says_nearly_the_same(
    network_of: Callable[[str], torch.nn.Module],
) -> None:
    network, width = network_of("resnet18"), BACKBONES["resnet18"].width
    runtime = OpenVinoRuntime(network, SIDE, width)
    assert runtime.bits == 8
    pictures = drawn_pictures(8, SIDE, seed=5)
    found, exact = runtime.run(pictures), runtime.run_in_32_bits(pictures)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((found * exact).sum(1) / norms).min() > NEAR
    # Another runtime, as in another process, gives the very same.
    again = OpenVinoRuntime(network, SIDE, width)
    np.testing.assert_array_equal(again.run(pictures), found)


@needs_fast_8_bits
def test_a_resnet_computes_convolutions_with_8_bit_numbers(
    network_of: Callable[[str], torch.nn.Module],
) -> None:
    _, changed = made(network_of("resnet18"))
    compiled = shared_core().compile_model(changed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    types = [
        str(node.get_rt_info()["runtimePrecision"].value)
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].value == "Convolution"
    ]
    # Of 20 five are as they were.
    assert sorted(types) == ["f32"] * 5 + ["u8"] * 15


@needs_fast_8_bits
def test_a_network_that_8_bits_would_change_runs_in_16() -> None:
    network = chain(6)
    into, out = network[2], network[4]
    assert isinstance(into, torch.nn.Conv2d)
    assert isinstance(out, torch.nn.Conv2d)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
                layer.bias.zero_()
        # One map a million times the others, and taken back: the same function.
        into.weight[0].abs_().mul_(1e6)
        out.weight[:, 0].div_(1e6)
    runtime = OpenVinoRuntime(network, SIDE, 8)
    assert runtime.bits in (16, 32)
    pictures = drawn_pictures(4, SIDE, seed=5)
    np.testing.assert_allclose(
        runtime.run(pictures), runtime.run_in_32_bits(pictures), rtol=0.05, atol=0.05
    )
