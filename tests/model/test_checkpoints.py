from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoints import STATE_FILE, load_checkpoint, save_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "count": torch.tensor(4)}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new", TENSORS, {"epoch": 3, "loss": 0.25})
    save_checkpoint(tmp_path / "new", TENSORS, {"epoch": 4, "loss": None})
    found = load_checkpoint(tmp_path / "new")
    assert found is not None
    tensors, description = found
    assert description == {"epoch": 4, "loss": None}
    assert {k: v.tolist() for k, v in tensors.items()} == {
        k: v.tolist() for k, v in TENSORS.items()
    }
    assert [p.name for p in (tmp_path / "new").iterdir()] == [STATE_FILE]


def test_channels_last_tensors_keep_their_values(tmp_path: Path) -> None:
    weights = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path, {"w": weights.to(memory_format=torch.channels_last)}, {})
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert torch.equal(found[0]["w"], weights)


def test_none_and_a_half_written_one_are_not_used(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    (tmp_path / f"{STATE_FILE}.partial").write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_one_is_not_used(tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path, TENSORS, {"epoch": 1})
    data = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(data[: int(len(data) * share)])
    assert load_checkpoint(tmp_path) is None
