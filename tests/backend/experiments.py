"""Small labelled images for experiments, and the command line on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("circle", "dark", "stripes")


@pytest.fixture
def here(tmp_path: Path, seeded_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which experiments run: with weights, and a data folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIEBREAK_WEIGHTS_DIR", str(seeded_weights))
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def shapes(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(count, 32, 32, 3) uint8 noisy shapes of three classes, and their classes."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    pixels = generator.normal(110, 25, (count, 32, 32, 3))
    rows, columns = np.mgrid[:32, :32]
    pixels[targets == 0] += (((rows - 16) ** 2 + (columns - 16) ** 2 < 90) * 110.0)[..., None]
    pixels[targets == 1] -= 60
    pixels[targets == 2] += ((rows % 8 < 4) * 90.0)[..., None]
    return pixels.clip(0, 255).astype(np.uint8), targets


def save_arrays(path: Path, train: int = 60, test: int = 120) -> Path:
    """An ``.npz`` file of shapes."""
    x, y = shapes(train, 1)
    x_test, y_test = shapes(test, 2)
    np.savez(path, X_train=x, y_train=y, X_test=x_test, y_test=y_test, class_names=CLASSES)
    return path


def save_folders(path: Path, count: int = 90) -> Path:
    """Class folders of shapes."""
    pixels, targets = shapes(count, 1)
    for i, (image, target) in enumerate(zip(pixels, targets, strict=True)):
        folder = path / CLASSES[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return path


def start(folder: Path, weights: Path, *arguments: str) -> subprocess.Popen[str]:
    """``tiebreak`` in a process of its own, in ``folder``."""
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "TIEBREAK_WEIGHTS_DIR": str(weights),
        "TIEBREAK_DATA_DIR": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background deaf to ctrl-c, and the tests with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stopped_when(
    ready: Callable[[], object], process: subprocess.Popen[str], how: signal.Signals
) -> tuple[str, str]:
    """Send a signal as soon as a process is so far; all that it printed and said."""
    deadline = time.monotonic() + 200
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    return process.communicate(timeout=100)
