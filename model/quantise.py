"""Convolutions in 8 bits: about half of the time that 16 take, on CPUs with instructions for it.

Which values the inputs of a convolution take is seen in pictures that are drawn here, so nobody's
photos are needed, and the same network gives the same embeddings wherever it runs. They are "dead
leaves" (Lee, Mumford and Huang, *Occlusion Models for Natural Images*, 2001), whose edges are of
all sizes, as in photos; sharp and blurred, of full and of little contrast.

Each input gets one range, each filter one of its own (Krishnamoorthi, *Quantizing deep
convolutional networks for efficient inference*, 2018, sections 2 and 3.1.2). What is outside a
range is clipped; it is the one with the least squared error over the values seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

KEPT = (0, 1, 3, 4, -1)
"""Convolutions that stay as they are: a ResNet's stem, those of its first block that read the
stem's maps or end the block, and the very last. They take little time. Of a picture with little
contrast 8 bits leave little at the start, and what the last one sees in photos is least like what
it sees in drawn pictures."""
PICTURES = 16
LEAVES = 600
SAMPLE = 8192
"""Values of one input that are looked at in one picture."""
BINS = 2048
CLIPS = np.linspace(0.2, 1, 41)
"""Ranges that are tried, as shares of the largest value."""

Pixels = NDArray[np.uint8]


def eight_bits_are_fast() -> bool:
    """Whether this CPU multiplies 8-bit numbers faster than longer ones."""
    # torch names these probes as private, so a version without them goes on in 16 bits.
    probes = ("_is_vnni_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def drawn_pictures(count: int, side: int, seed: int) -> Pixels:
    """(count, side, side, 3) uint8 for a network to look at."""
    generator = np.random.default_rng(seed)
    return np.stack([_picture(generator, side, kind) for kind in range(count)])


def quantised(openvino: Any, core: Any, model: Any, side: int) -> Any | None:
    """OpenVINO's ``model`` of one (1, side, side, 3) uint8 picture, with what its CPU plugin makes
    8-bit convolutions of; ``model`` stays as it is.

    None where it would gain nothing, or lose too much: where no convolution is left beside
    :data:`KEPT`, and where one has groups. The depthwise ones of MobileNets have filters too unlike
    each other for the range that their outputs share (Nagel and others, *Data-Free Quantization
    Through Weight Equalization and Bias Correction*, 2019, section 3.1).
    """
    if any(node.get_type_name() == "GroupConvolution" for node in model.get_ops()):
        return None
    # A copy to be changed; its nodes are in the order of the model's own.
    changed = model.clone()
    chosen = _chosen([node for node in _convolutions(changed) if _is_constant(node)])
    if not chosen:
        return None
    inputs = {_name(node.input_value(0)): node.input_value(0) for node in chosen}
    ranges = _ranges(openvino, core, model, list(inputs), side)
    rounded = {name: _rounded(openvino, inputs[name], ranges[name]) for name in inputs}
    for node in chosen:
        name = _name(node.input_value(0))
        node.input(0).replace_source_output(rounded[name])
        node.input(1).replace_source_output(_rounded_filters(openvino, node.input_value(1)))
    return changed


def best_clip(values: NDArray[np.float32], steps: int) -> float:
    """(n,) finite numbers of at most ``steps`` steps of a range to either side of 0 -> the end of
    the range with the least squared error, of 41 that are tried; 1 where all are 0."""
    sizes = np.abs(values)
    top = float(sizes.max(initial=0))
    if top == 0:
        return 1.0
    counts, edges = np.histogram(sizes, bins=BINS, range=(0, top))
    middles = (edges[:-1] + edges[1:]) / 2
    clips = CLIPS * top
    step = clips[:, np.newaxis] / steps
    nearest = np.minimum(np.round(middles / step), steps) * step
    errors = ((middles - nearest) ** 2) @ counts
    return float(clips[errors.argmin()])


def _convolutions(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]


def _chosen(convolutions: Sequence[Any]) -> list[Any]:
    kept = {place % len(convolutions) for place in KEPT} if convolutions else set()
    return [node for place, node in enumerate(convolutions) if place not in kept]


def _is_constant(node: Any) -> bool:
    """Whether the filters of a convolution are numbers of the model."""
    return bool(node.input_value(1).get_node().get_type_name() == "Constant")


def _name(output: Any) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def _ranges(
    openvino: Any, core: Any, model: Any, names: Sequence[tuple[str, int]], side: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """The least and the largest value of each of those outputs."""
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    watched = [nodes[name].output(index) for name, index in names]
    results = [openvino.opset13.result(output) for output in watched]
    seen = _values(openvino.Model(results, model.get_parameters(), "watched"), core, side)
    return {name: _range(np.concatenate(parts)) for name, parts in zip(names, seen, strict=True)}


def _values(watched: Any, core: Any, side: int) -> Iterator[list[NDArray[np.float32]]]:
    """Of each output in turn, some values from each of the pictures."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(watched, "CPU", settings).create_infer_request()
    kept: list[list[NDArray[np.float32]]] = [[] for _ in watched.outputs]
    for picture in drawn_pictures(PICTURES, side, seed=0):
        request.infer(picture[np.newaxis])
        for number, parts in enumerate(kept):
            values = request.get_output_tensor(number).data.ravel()
            # An odd stride, so that it does not meet the same column of every row.
            parts.append(values[:: max(1, values.size // SAMPLE) | 1].copy())
    return iter(kept)


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    if values.min() >= 0:
        return 0.0, best_clip(values, 255)
    high = best_clip(values, 127)
    return -high * 128 / 127, high


def _rounded(openvino: Any, output: Any, ends: tuple[float, float]) -> Any:
    """An activation, of which 256 values are left."""
    low, high = (openvino.opset13.constant(np.full((1, 1, 1, 1), end, np.float32)) for end in ends)
    return openvino.opset13.fake_quantize(output, low, high, low, high, 256).output(0)


def _rounded_filters(openvino: Any, filters: Any) -> Any:
    """Filters, of each of which 255 values are left, the same to either side of 0."""
    numbers = filters.get_node().get_data()
    largest = np.abs(numbers).max(axis=(1, 2, 3), keepdims=True).astype(np.float32)
    largest[largest == 0] = 1
    low, high = (openvino.opset13.constant(end) for end in (-largest, largest))
    return openvino.opset13.fake_quantize(filters, low, high, low, high, 255).output(0)


def _picture(generator: np.random.Generator, side: int, kind: int) -> Pixels:
    """(side, side, 3): leaves; of four in turn, the second is blurred, the third pale, the fourth
    both."""
    picture = _leaves(generator, side)
    if kind % 4 in (1, 3):
        small = max(1, side // 5)
        picture = picture.resize((small, small), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float64)
    if kind % 4 == 0:
        pixels = pixels + generator.normal(0, generator.uniform(0, 12), pixels.shape)
    if kind % 4 in (2, 3):
        pixels = pixels * 0.35 + generator.uniform(0, 165)
    return pixels.clip(0, 255).astype(np.uint8)


def _leaves(generator: np.random.Generator, side: int) -> Image.Image:
    """A square of twice the side, covered with ellipses, boxes and polygons in turn."""
    width = 2 * side
    picture = Image.new("RGB", (width, width))
    draw = ImageDraw.Draw(picture)
    for number in range(LEAVES):
        radius = min(side, (generator.pareto(2) + 1) * 0.03 * side)
        (x, y), height = generator.uniform(0, width, 2), radius * generator.uniform(0.3, 1)
        colour = tuple(int(level) for level in generator.integers(0, 256, 3))
        box = (x - radius, y - height, x + radius, y + height)
        if number % 3 == 0:
            draw.ellipse(box, fill=colour)
        elif number % 3 == 1:
            draw.rectangle(box, fill=colour)
        else:
            angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 8)))
            corners = zip(x + radius * np.cos(angles), y + height * np.sin(angles), strict=True)
            draw.polygon([(float(left), float(top)) for left, top in corners], fill=colour)
    return picture
