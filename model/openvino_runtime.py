"""A network on CPUs by OpenVINO: several times as fast as eager torch.

The network is traced, and normalisation is made a part of it, so that pixels go in as they are. On
CPUs with bfloat16 instructions it computes in 16 bits, and on those that multiply 8-bit numbers
fast most of a ResNet does in 8 (see :mod:`model.quantise`).

Each request carries one image and has one core to itself, and as many run at a time as there are
cores: docs/performance.md has what larger batches and other splits cost. So an embedding does not
depend on the images beside it.

OpenVINO reports its use over the network through a package of its own, which is kept from being
imported.
"""

from __future__ import annotations

import queue
import sys
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.normalise import Normalise
from model.quantise import drawn_pictures, eight_bits_are_fast, quantised

EQUAL, SIMILAR = 0.999, 0.97
"""Least cosine similarity to torch's embeddings, of images of noise: of the converted network in 32
bits, or it is not run here, and in 16 bits, or it is run in 32. Noise is harder than photos."""
NEAR = 0.99
"""Least cosine similarity in 8 bits to 32, of drawn pictures that chose no range, or 16 it is."""
JUDGED = 8


class CannotRun(Exception):
    """The network cannot be run by OpenVINO, or gives something else than in torch."""


class OpenVinoRuntime:
    """Runs one network on all cores that torch may use; may be shared by threads.

    Later changes of the network's weights are not followed. :class:`CannotRun` says why not.

    ``bits``  of the numbers that most is computed with: 8, 16 or 32
    """

    def __init__(self, network: torch.nn.Module, side: int, width: int) -> None:
        self._width = width
        self._lock = threading.Lock()
        self._exact: _Streams | None = None
        self.bits = 32
        try:
            self._core = shared_core()
            self._model = converted(import_openvino(), network, side)
            different = self._choose_type(network, side)
        # Converters raise nearly anything at what they do not know.
        except Exception as error:
            why = next(iter(str(error).splitlines()), "")
            raise CannotRun(f"{type(error).__name__}: {why}") from error
        if different:
            raise CannotRun("its embeddings differ from torch's")

    def run(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n pictures of (s, s, 3) uint8 -> (n, width)."""
        return self._fast.run(squares)

    def run_in_32_bits(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The same without rounding to 16 bits."""
        with self._lock:
            self._exact = self._exact or self._compiled(self._model, "f32")
        return self._exact.run(squares)

    def _choose_type(self, network: torch.nn.Module, side: int) -> bool:
        """Choose between 8, 16 and 32 bits; whether even 32 are something else than in torch."""
        noise = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
        with torch.inference_mode():
            wanted = _with_pixels(network)(torch.from_numpy(noise)).numpy()
        exact = self._fast = self._compiled(self._model, "f32")
        if not _similar(exact.run(noise), wanted, EQUAL):
            return True
        number_type = "f32"
        if "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            half = self._compiled(self._model, "bf16")
            if _similar(half.run(noise), wanted, SIMILAR):
                self._fast, self.bits, number_type = half, 16, "bf16"
        narrow = self._in_8_bits(exact, side, number_type) if eight_bits_are_fast() else None
        if narrow is not None:
            self._fast, self.bits = narrow, 8
        if self._fast is exact:
            self._exact = exact  # otherwise it is rarely needed
        return False

    def _in_8_bits(self, exact: _Streams, side: int, number_type: str) -> _Streams | None:
        """Most convolutions in 8 bits and the rest in ``number_type``; None where that is not
        possible, or not near enough."""
        narrow = quantised(import_openvino(), self._core, self._model, side)
        if narrow is None:
            return None
        streams, pictures = self._compiled(narrow, number_type), drawn_pictures(JUDGED, side, 1)
        return streams if _similar(streams.run(pictures), exact.run(pictures), NEAR) else None

    def _compiled(self, model: Any, number_type: str) -> _Streams:
        threads = torch.get_num_threads()
        # Not pinned: decoders and other processes have the same cores.
        settings = {
            "INFERENCE_PRECISION_HINT": number_type,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(model, "CPU", settings)
        return _Streams([compiled.create_infer_request() for _ in range(threads)], self._width)


class _Streams:
    """A compiled network that takes as many images at a time as it has requests."""

    def __init__(self, requests: list[Any], width: int) -> None:
        self._width = width
        self._threads = ThreadPoolExecutor(len(requests), "openvino")
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests:
            self._free.put(request)

    def run(self, squares: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n pictures of (s, s, 3) uint8 -> (n, width)."""
        rows = list(self._threads.map(self._one, squares))
        return np.stack(rows) if rows else np.empty((0, self._width), np.float32)

    def _one(self, square: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = self._free.get()
        try:
            request.infer(square[np.newaxis])
            found: NDArray[np.float32] = request.get_output_tensor().data[0].copy()
            return found
        finally:
            self._free.put(request)


def _similar(given: NDArray[np.float32], wanted: NDArray[np.float32], least: float) -> bool:
    """Whether rows are. Neither not-a-number nor nothing at all is similar."""
    left, right = given.astype(np.float64), wanted.astype(np.float64)
    products = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return bool(np.all((left * right).sum(1) > least * products))


def import_openvino() -> Any:
    """The package, without what it reports. ImportError where it is not installed."""
    # With None in its place an import fails, and OpenVINO goes on without.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openvino

    return openvino


@cache
def shared_core() -> Any:
    """OpenVINO's devices. Kept for good: with the last of its kind their libraries are unloaded,
    under the feet of threads that have used them and have yet to end."""
    return import_openvino().Core()


def converted(openvino: Any, network: torch.nn.Module, side: int) -> Any:
    """OpenVINO's model of a network: (1, s, s, 3) uint8 -> (1, width) float32."""
    example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing is deprecated, and what replaces it is slow
        # Not by OpenVINO, which traces twice more to compare: the embeddings are compared here.
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            _with_pixels(network), example, check_trace=False
        )
        # Its own copy of the weights: shared ones would be tensors that its threads give back.
        model = openvino.convert_model(traced, example_input=example, share_weights=False)
    model.reshape([1, side, side, 3])
    return model


def _with_pixels(network: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(_Pixels(), network).eval()


class _Pixels(torch.nn.Module):
    """(n, s, s, 3) uint8 -> (n, 3, s, s) float32, as the networks of torchvision take it."""

    def __init__(self) -> None:
        super().__init__()
        self._normalise = Normalise(torch.device("cpu"))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._normalise(pixels.permute(0, 3, 1, 2))
