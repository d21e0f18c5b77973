from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.backbones import Backbone, load_backbone
from model.embed import Embedder
from model.errors import ArgumentError, WeightsError

RED = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
BLUE = [-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225]


class Pool(torch.nn.Module):
    """Mean colour of ``columns`` vertical strips: (n, 3, s, s) -> (n, 3 * columns)."""

    def __init__(self, columns: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.columns, self.gain = columns, gain
        self.largest = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, len(images))
        strips = torch.nn.functional.adaptive_avg_pool2d(images, (1, self.columns))
        return strips.permute(0, 3, 1, 2).flatten(1) * self.gain


class SmallMemory(Pool):
    """Runs out of memory above ``limit`` images."""

    limit = 4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


class OverflowsInHalf(Pool):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        half = torch.is_autocast_enabled("cpu")
        return super().forward(images) * (torch.inf if half else 1.0)


def pooling(network: Pool, side: int = 32) -> Backbone:
    return Backbone("pool", f"pool-00000000-{side}px", 3 * network.columns, side, network)


def noise(n: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((80, 60)) for pixels in coarse]


@pytest.fixture(scope="module")
def backbone(seeded_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(
        "mobilenet_v3_small",
        input_size=64,
        weights_dir=seeded_weights,
        cache_dir=tmp_path_factory.mktemp("cache"),
    )


def test_normalisation_by_hand() -> None:
    embeddings = Embedder(pooling(Pool()), device="cpu").embed(
        [Image.new("RGB", (50, 20), "red"), Image.new("RGB", (7, 90), "blue")]
    )
    assert embeddings.dtype == np.float16
    np.testing.assert_allclose(embeddings, [RED, BLUE], rtol=1e-3)


def test_whole_picture_reaches_the_network() -> None:
    picture = Image.new("RGB", (400, 100), "blue")
    picture.paste("red", (0, 0, 40, 100))
    picture.paste("red", (360, 0, 400, 100))
    strips = Embedder(pooling(Pool(columns=10), side=320), device="cpu").embed([picture])
    np.testing.assert_allclose(strips.reshape(10, 3)[[0, 9]], [RED, RED], atol=0.1)
    np.testing.assert_allclose(strips.reshape(10, 3)[2:8], [BLUE] * 6, rtol=1e-3)


def test_shrinking_is_antialiased() -> None:
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = Embedder(pooling(Pool(columns=32)), device="cpu").embed([Image.fromarray(board)])
    grey = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    np.testing.assert_allclose(pixels.reshape(32, 3), [grey] * 32, atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (32, 32), (3000, 2), (33, 700)])
def test_any_size(size: tuple[int, int]) -> None:
    embeddings = Embedder(pooling(Pool()), device="cpu").embed([Image.new("RGB", size, "red")])
    np.testing.assert_allclose(embeddings, [RED], rtol=1e-3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_other_modes_are_converted(mode: str) -> None:
    embedder = Embedder(pooling(Pool()), device="cpu")
    white = Image.new("RGB", (9, 9), "white")
    given, wanted = embedder.embed([white.convert(mode)]), embedder.embed([white])
    np.testing.assert_array_equal(given, wanted)


def test_close_to_float32(backbone: Backbone) -> None:
    images = noise(6)
    pixels = np.stack([np.asarray(i.resize((64, 64), Image.Resampling.BILINEAR)) for i in images])
    inputs = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        wanted = backbone.network(torch.tensor(inputs).permute(0, 3, 1, 2).float()).numpy()
    given = Embedder(backbone, device="cpu").embed(images).astype(np.float32)
    norms = np.linalg.norm(given, axis=1) * np.linalg.norm(wanted, axis=1)
    assert given.shape == wanted.shape == (6, 576)
    assert np.all((given * wanted).sum(1) / norms > 0.98)


def test_embedding_depends_on_its_batch_by_rounding_only(backbone: Backbone) -> None:
    images = noise(9)
    whole = Embedder(backbone, device="cpu", runtime="torch").embed(images).astype(np.float32)
    span = np.abs(whole).max()
    for batch_size in (1, 2, 5):
        parts = Embedder(backbone, device="cpu", batch_size=batch_size, runtime="torch").embed(
            images
        )
        np.testing.assert_allclose(parts, whole, atol=0.02 * span)
    turned = Embedder(backbone, device="cpu", runtime="torch").embed(images[::-1])
    np.testing.assert_allclose(turned[::-1], whole, atol=0.02 * span)


def test_repeatable(backbone: Backbone) -> None:
    embedder = Embedder(backbone, device="cpu")
    np.testing.assert_array_equal(embedder.embed(noise(3)), embedder.embed(noise(3)))


def test_no_images(backbone: Backbone) -> None:
    embeddings = Embedder(backbone).embed([])
    assert embeddings.shape == (0, 576)
    assert embeddings.dtype == np.float16


def test_identity_and_width_are_the_backbones(backbone: Backbone) -> None:
    embedder = Embedder(backbone, device="cpu")
    assert (embedder.identity, embedder.width) == (backbone.identity, 576)


def test_batches_are_of_the_size_asked_for() -> None:
    network = Pool()
    Embedder(pooling(network), device="cpu", batch_size=4, runtime="torch").embed(noise(10))
    assert network.largest == 4


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    images = noise(23)
    embedder = Embedder(pooling(SmallMemory()), device="cpu", batch_size=16, runtime="torch")
    wanted = Embedder(pooling(Pool()), device="cpu", runtime="torch").embed(images)
    np.testing.assert_array_equal(embedder.embed(images), wanted)
    assert embedder.batch_size == 4


def test_out_of_memory_for_a_single_image_is_raised() -> None:
    network = SmallMemory()
    network.limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        Embedder(pooling(network), device="cpu", runtime="torch").embed(noise(3))


def test_overflow_in_16_bits_is_computed_again_in_32() -> None:
    red = Image.new("RGB", (5, 5), "red")
    embeddings = Embedder(pooling(OverflowsInHalf()), device="cpu", runtime="torch").embed([red])
    np.testing.assert_allclose(embeddings, [RED], rtol=1e-3)


def test_values_beyond_float16_are_clipped() -> None:
    red = Image.new("RGB", (5, 5), "red")
    embeddings = Embedder(pooling(Pool(gain=1e6)), device="cpu").embed([red])
    np.testing.assert_array_equal(embeddings, [[65504, -65504, -65504]])


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(WeightsError, match="pool-00000000-32px gives embeddings"):
        Embedder(pooling(Pool(gain=float("nan"))), device="cpu").embed(noise(1))


def test_what_is_not_an_image_is_named_by_its_position() -> None:
    embedder = Embedder(pooling(Pool()), device="cpu", batch_size=2)
    with pytest.raises(ArgumentError, match=r"images\[3\] is a str"):
        embedder.embed([*noise(3), "picture.png"])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"images\[1\] has no pixels"):
        embedder.embed([*noise(1), Image.new("RGB", (0, 5))])


@pytest.mark.parametrize("device", ["", "gpu", "cuda:99", "meta"])
def test_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ArgumentError, match=f"device='{device}'"):
        Embedder(pooling(Pool()), device=device)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_out_of_range(batch_size: int) -> None:
    with pytest.raises(ArgumentError, match=f"batch_size={batch_size}"):
        Embedder(pooling(Pool()), batch_size=batch_size)
