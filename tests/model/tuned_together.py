"""``python -m tests.model.tuned_together RANK SIZE FOLDER``: one of the processes that fine-tune
the small network of :mod:`tests.model.test_finetune` together, in every way that has its own code.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed

from model.finetune import FineTuned, FineTuneOptions, finetune
from tests.model.test_finetune import OPTIONS, kinds, load_stripes, small_backbone

# Small steps, so that what is rounded differently stays small.
GENTLE = replace(
    OPTIONS, epochs=2, batch_size=33, backbone_rate=0.002, head_rate=0.002, probe_first=False
)
WAYS: dict[str, FineTuneOptions] = {
    # 68 rows are learned: the last batch is of two, or of one that one of the processes has.
    "plain": GENTLE,
    "mixed": replace(
        GENTLE, batch_size=67, mixup=0.4, label_smoothing=0.1, balance="none", probe_first=True
    ),
    "sampled": replace(GENTLE, balance="sampler", optimiser="sgd", backbone_rate=0.2),
    "moving": replace(GENTLE, frozen_statistics=False, epochs=1),
    # Another process has begun with it, alone.
    "resumed": replace(GENTLE, batch_size=34, seed=8, probe_first=True),
}


def tune(way: str, checkpoint: Path, **more: Any) -> FineTuned:
    """Fine-tune; what has been learned before the last epoch is in ``checkpoint``."""
    return finetune(
        small_backbone(),
        load_stripes,
        kinds(),
        WAYS[way],
        device="cpu",
        workers=0,
        checkpoint=checkpoint,
        **more,
    )


def losses(found: FineTuned) -> torch.Tensor:
    """(epochs + 1, 2) of the watched rows and of the steps."""
    return torch.tensor([(at.loss, at.training_loss or 0.0) for at in found.epochs])


def main(rank: int, size: int, folder: Path) -> None:
    """Write what came of each way."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    saved: list[Path] = []
    told: list[Any] = []
    for way in WAYS:
        found = tune(way, folder / way, on_saved=saved.append, on_progress=told.append)
        save_file({"losses": losses(found)}, folder / f"{way}-{rank}.safetensors")
    assert (len(saved) > 0, len(told) > 0) == (rank == 0, rank == 0)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
