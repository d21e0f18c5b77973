"""A network gives the same embeddings by OpenVINO as by torch, or runs by torch."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.backbones import BACKBONES, Backbone, build_network
from model.embed import Embedder, RuntimeName, square_pixels
from model.errors import ArgumentError
from model.openvino_runtime import OpenVinoRuntime

ROOT = Path(__file__).resolve().parents[2]


def pictures(n: int, side: int = 64) -> list[Image.Image]:
    coarse = np.random.default_rng(3).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in coarse]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(1) / norms


@pytest.fixture
def backbone(seeded_model: Callable[[str], torch.nn.Module]) -> Callable[[str], Backbone]:
    def make(name: str) -> Backbone:
        spec = BACKBONES[name]
        network = build_network(spec, seeded_model(name).state_dict(), source="seeded")
        return Backbone(name, f"{name}-0-64px", spec.width, 64, network)

    return make


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_openvino_agrees_with_torch_in_32_bits(
    name: str, backbone: Callable[[str], Backbone]
) -> None:
    made = backbone(name)
    squares = [np.asarray(picture) for picture in pictures(5)]
    shift, scale = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = torch.tensor((np.stack(squares) / 255 - shift) / scale).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        wanted = made.network(inputs).numpy()
    runtime = OpenVinoRuntime(made.network, 64, made.width)
    exact = runtime.run_in_32_bits(squares)
    np.testing.assert_allclose(exact, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    assert cosines(runtime.run(squares), wanted).min() > 0.98


def test_an_embedding_does_not_depend_on_its_neighbours(
    backbone: Callable[[str], Backbone],
) -> None:
    embedder = Embedder(backbone("mobilenet_v3_small"), device="cpu", batch_size=4)
    images = pictures(11)
    assert embedder.runtime == "openvino"
    together = embedder.embed(images)
    assert together.shape == (11, 576)
    alone = np.concatenate([embedder.embed([image]) for image in images])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(embedder.embed(images[::-1]), together[::-1])


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_threads_share_an_embedder(
    runtime: RuntimeName, backbone: Callable[[str], Backbone]
) -> None:
    made, images = backbone("mobilenet_v3_small"), pictures(24)
    wanted = Embedder(made, device="cpu", runtime=runtime).embed(images[:8])
    shared = Embedder(made, device="cpu", runtime=runtime)
    parts = [images[:8], images[8:16], images[16:], images[:8]]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(shared.embed, parts))
    np.testing.assert_array_equal(found[0], wanted)
    np.testing.assert_array_equal(found[3], wanted)


class TwoFaced(torch.nn.Module):
    """Something else when it is traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return means.flip(1) if torch.jit.is_tracing() else means


def test_what_cannot_be_converted_runs_by_torch(caplog: pytest.LogCaptureFixture) -> None:
    made, why = Backbone("odd", "odd-0-32px", 3, 32, TwoFaced()), "embeddings differ from torch"
    with caplog.at_level(logging.WARNING):
        embedder = Embedder(made, device="cpu")
        found = embedder.embed([Image.new("RGB", (9, 9), "white")])
    assert embedder.runtime == "torch"
    np.testing.assert_allclose(found, [[2.249, 2.429, 2.640]], atol=0.02)
    assert [record.getMessage() for record in caplog.records if why in record.getMessage()]
    with pytest.raises(ArgumentError, match="runtime='openvino' cannot run odd-0-32px"):
        Embedder(made, runtime="openvino").embed([Image.new("RGB", (9, 9))])


def test_without_openvino_torch_runs(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backbone: Callable[[str], Backbone],
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    made = backbone("mobilenet_v3_small")
    with caplog.at_level(logging.WARNING):
        embedder = Embedder(made, device="cpu")
        found = embedder.embed(pictures(3))
    assert embedder.runtime == "torch"
    assert len(caplog.records) == 1
    assert "OpenVINO cannot run mobilenet_v3_small-0-64px" in caplog.text
    monkeypatch.undo()
    assert cosines(found, Embedder(made, device="cpu").embed(pictures(3))).min() > 0.98


def test_a_picture_that_is_none_leaves_the_runtime_in_order(
    backbone: Callable[[str], Backbone],
) -> None:
    embedder = Embedder(backbone("mobilenet_v3_small"), device="cpu")
    images = pictures(6)
    wanted = embedder.embed(images)
    with pytest.raises(ArgumentError, match=r"images\[3\] is a str"):
        embedder.embed([*images[:3], "x", *images[3:]])  # type: ignore[list-item]
    np.testing.assert_array_equal(embedder.embed(images), wanted)


def test_a_runtime_says_why_it_cannot() -> None:
    """In an interpreter of its own: a trace that ends in an error leaves torch's memory in a state
    that other tests would be blamed for."""
    code = """
import torch
from model.openvino_runtime import CannotRun, OpenVinoRuntime
class Crooked(torch.nn.Module):
    def forward(self, images):
        if torch.jit.is_tracing():
            raise RuntimeError("not to be traced\\nand more")
        return images.mean((2, 3))
try:
    OpenVinoRuntime(Crooked(), 32, 3)
except CannotRun as error:
    print(error)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.stdout == "RuntimeError: not to be traced\n", done.stderr


def test_nothing_is_reported_over_the_network() -> None:
    """A fresh interpreter embeds by OpenVINO, and any use of a socket would end it."""
    code = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(3)
sys.addaudithook(watch)
import torch
from model.openvino_runtime import OpenVinoRuntime
network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
OpenVinoRuntime(network, 32, 3)
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub", telemetry_utils.tm
print("embedded")
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout) == (0, "embedded\n"), done.stderr


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (97, 33), (64, 200), (1, 1), (190, 190)])
def test_squares_are_as_pillow_makes_them(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    wanted = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(square_pixels(picture, 64, 0).astype(int) - wanted)
    # The first is shrunk so much that whole pixels are averaged before.
    assert difference.max() <= (1 if max(size) <= 192 else 40)
    assert difference.mean() < (0.1 if max(size) <= 192 else 6)


def test_openvino_is_for_cpus() -> None:
    made = Backbone("odd", "odd-0-32px", 3, 32, torch.nn.Identity())
    assert Embedder(made, runtime="openvino").device.type == "cpu"
