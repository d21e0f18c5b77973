"""Several processes train one network: real ones, that meet by a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from model.finetune import Cancelled
from model.world import ALONE, World, current_world
from tests.model.test_finetune import small_backbone
from tests.model.tuned_together import WAYS, losses, tune

SIZE = 2


TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes have left."""
    folder = tmp_path_factory.mktemp("together")
    asked = 0

    def in_the_second_epoch() -> bool:
        # It is asked for each of 80 images, before the probe, and before each step of two epochs.
        nonlocal asked
        asked += 1
        return asked > 80 + 1 + 2 + 1

    with pytest.raises(Cancelled):
        tune("resumed", folder / "resumed", cancelled=in_the_second_epoch)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.model.tuned_together", str(rank), str(SIZE), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return folder


def learned(folder: Path) -> dict[str, torch.Tensor]:
    """What the last state on disk says of the network in training."""
    state = load_file(folder / "state.safetensors")
    return {key: value for key, value in state.items() if key.startswith("learner.")}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.mark.parametrize("way", WAYS)
def test_all_processes_agree_on_how_it_went(together: Path, way: str) -> None:
    first, second = (
        load_file(together / f"{way}-{rank}.safetensors")["losses"] for rank in range(SIZE)
    )
    assert torch.equal(first, second)
    assert bool(torch.isfinite(first).all())


@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"moving"}))
def test_two_processes_learn_what_one_learns(together: Path, tmp_path: Path, way: str) -> None:
    alone = tune(way, tmp_path)
    found = load_file(together / f"{way}-0.safetensors")["losses"]
    assert float((losses(alone) - found).abs().max()) < TOLERANCE
    before = {
        f"learner.backbone.{key}": value
        for key, value in small_backbone().network.state_dict().items()
    }
    one, two = (
        {key: value for key, value in learned(folder).items() if key in before}
        for folder in (tmp_path, together / way)
    )
    assert furthest(one, before) > 0.002
    assert furthest(one, two) < 0.05 * furthest(one, before)


@given(n=st.integers(0, 200), size=st.integers(1, 9))
def test_shares_are_all_places_once(n: int, size: int) -> None:
    places = [list(range(n)[World(rank, size).share(n)]) for rank in range(size)]
    assert [place for share in places for place in share] == list(range(n))
    assert max(map(len, places)) == -(-n // size)


def test_a_process_without_a_group_is_alone() -> None:
    assert current_world() == ALONE
    part = np.ones((3, 2), dtype=np.float32)
    assert ALONE.gather(part, 3, torch.device("cpu")) is part
    assert ALONE.agree((0.1, 2.0), torch.device("cpu")) == (0.1, 2.0)
    assert float(ALONE.total(torch.tensor(0.5))) == 0.5
