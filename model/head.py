"""Embeddings and labels in, a calibrated linear classifier out, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ArgumentError

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier on embeddings, with its calibration.

    ``classes``      k names, in the order of every (n, k) array
    ``multiple``     False: one softmax over the classes; True: one sigmoid per class
    ``weights``      (d, k) float32
    ``bias``         (k,) float32
    ``temperature``  (1,) float32 for softmax, (k,) for sigmoids; above 0
    """

    classes: tuple[str, ...]
    multiple: bool
    weights: FloatArray
    bias: FloatArray
    temperature: FloatArray

    def __post_init__(self) -> None:
        k = len(self.classes)
        if self.weights.ndim != 2 or self.weights.shape[1] != k:
            raise ArgumentError(f"weights has shape {self.weights.shape}; (d, {k}) is needed.")
        if self.bias.shape != (k,):
            raise ArgumentError(f"bias has shape {self.bias.shape}; ({k},) is needed.")
        wanted = (k,) if self.multiple else (1,)
        if self.temperature.shape != wanted:
            raise ArgumentError(
                f"temperature has shape {self.temperature.shape}; {wanted} is needed."
            )

    def logits(self, embeddings: NDArray[np.floating]) -> FloatArray:
        """(n, d) embeddings -> (n, k) float32 logits, before the temperature."""
        rows = np.asarray(embeddings, dtype=np.float32)
        return rows @ self.weights + self.bias

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The numbers of the head, for storage: ``weights``, ``bias`` and ``temperature``."""
        return {"weights": self.weights, "bias": self.bias, "temperature": self.temperature}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], classes: Sequence[str], multiple: bool
    ) -> Head:
        """The head whose :meth:`to_arrays` gave ``arrays``. ArgumentError when they do not fit."""
        missing = sorted({"weights", "bias", "temperature"} - set(arrays))
        if missing:
            raise ArgumentError(f"arrays has no {', '.join(missing)}; a head needs all three.")
        return cls(
            classes=tuple(classes),
            multiple=multiple,
            weights=np.ascontiguousarray(arrays["weights"], dtype=np.float32),
            bias=np.ascontiguousarray(arrays["bias"], dtype=np.float32),
            temperature=np.ascontiguousarray(arrays["temperature"], dtype=np.float32),
        )
