"""A labelled data set as embeddings, made once by the product's own code and kept in a folder."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.read_data import read_labelled_data
from benchmarks.embedded import embedded
from model.backbones import load_backbone
from model.embed import Embedder

Array = NDArray[Any]
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, eq=False)
class LabelledEmbeddings:
    """(n, d) float16 embeddings with (n,) class positions; the last part is never learned from."""

    name: str
    classes: tuple[str, ...]
    train: Array
    y_train: NDArray[np.int64]
    test: Array
    y_test: NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data is, and where its embeddings are kept."""
    parser.add_argument("data", type=Path, nargs="+", help=".npz files or folders of class folders")
    parser.add_argument("--weights", type=Path, help="folder with the pretrained weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache/replays"))
    parser.add_argument("--size", type=int, default=160, help="input size in pixels")


def load_embeddings(data: Path, given: argparse.Namespace) -> LabelledEmbeddings:
    """MobileNetV2's embeddings of ``data``, from the cache where they are there."""
    images = read_labelled_data(data, seed=0, side=given.size, max_pixels=MAX_PIXELS)
    backbone = load_backbone(
        "mobilenet_v2", input_size=given.size, weights_dir=given.weights, cache_dir=given.cache
    )
    embedder = Embedder(backbone)
    train, test = (
        embedded(embedder, part, f"{data.stem}-{name}", given.cache)
        for name, part in (("train", images.train), ("test", images.test))
    )
    return LabelledEmbeddings(
        data.stem, images.classes, train, images.train.targets, test, images.test.targets
    )
