"""Labelled data as embeddings, made once by the product's own code and kept in a folder."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labelled_data import ImageSet
from backend.read_data import read_labelled_data
from benchmarks.report import say
from model.backbones import load_backbone
from model.embed import Embedder

Array = NDArray[Any]
BACKBONE, MAX_PIXELS, BATCH = "mobilenet_v2", 100_000_000, 256


@dataclass(frozen=True, eq=False)
class Embedded:
    """(n, d) float16 embeddings with (n,) class positions; the last part is never learned from."""

    name: str
    train: Array
    y_train: NDArray[np.int64]
    test: Array
    y_test: NDArray[np.int64]

    @property
    def classes(self) -> list[str]:
        """Names of the classes: their positions."""
        return [str(c) for c in range(int(max(self.y_train.max(), self.y_test.max())) + 1)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data is, and where its embeddings are kept."""
    parser.add_argument("data", type=Path, nargs="+", help=".npz files or folders of class folders")
    parser.add_argument("--weights", type=Path, help="folder with the pretrained weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache/embeddings"))
    parser.add_argument("--size", type=int, default=160, help="input size in pixels")


def load_embedded(data: Path, given: argparse.Namespace) -> Embedded:
    """The embeddings of ``data``, from the cache where they are there."""
    kept = given.cache / f"{data.stem}-{BACKBONE}-{given.size}.npz"
    if not kept.exists():
        _embed(data, kept, given)
    with np.load(kept) as found:
        return Embedded(
            data.stem,
            found["train"],
            found["y_train"].astype(np.int64),
            found["test"],
            found["y_test"].astype(np.int64),
        )


def _embed(data: Path, to: Path, given: argparse.Namespace) -> None:
    images = read_labelled_data(data, seed=0, side=given.size, max_pixels=MAX_PIXELS)
    backbone = load_backbone(
        BACKBONE, input_size=given.size, weights_dir=given.weights, cache_dir=given.cache
    )
    embedder = Embedder(backbone)
    to.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        to,
        train=_of(images.train, embedder),
        y_train=images.train.targets,
        test=_of(images.test, embedder),
        y_test=images.test.targets,
    )


def _of(part: ImageSet, embedder: Embedder) -> Array:
    found = []
    for start in range(0, len(part), BATCH):
        say(f"embedding {start} of {len(part)}")
        found.append(
            embedder.embed([part.load(i) for i in range(start, min(start + BATCH, len(part)))])
        )
    return np.concatenate(found)
