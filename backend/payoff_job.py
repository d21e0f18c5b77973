"""``python -m backend.payoff_job FOLDER``: make the comparisons that lie there.

A comparison fits 16 heads, which takes minutes where labels are many, so it runs beside the trainer
at low priority. It keeps no state: when it is killed, it is made again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.label_config import Control
from backend.payoff import Look
from model.head import power_normalise
from model.payoff import Comparison, Labelled, Stage, Verdict
from model.pool_prior import PoolPrior

JOB, ARRAYS, RESULT = "job.json", "arrays.npz", "result.json"
NICE = 15


def write_job(
    folder: Path, looks: Sequence[Look], seed: int, pools: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Lay down what is to be compared, in place of what lay there.

    ``pools``: data key → (n, d) embeddings of the project's images, which the heads of its controls
    listen to; a control of several choices listens to none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {f"pool_{key}": rows for key, rows in (pools or {}).items()}
    for i, look in enumerate(looks):
        for name, part in (("picked", look.picked), ("audit", look.audit)):
            arrays[f"{name}_x_{i}"], arrays[f"{name}_y_{i}"] = part.embeddings, part.targets
    np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
    told = [
        {"control": asdict(look.control), "stage": look.stage, "before": look.before}
        for look in looks
    ]
    (folder / JOB).write_text(json.dumps({"seed": seed, "looks": told}), encoding="utf-8")


def read_result(folder: Path) -> list[tuple[str, Comparison]] | None:
    """Control and comparison for each look; None where the job did not come to its end."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for _, kept in found:
        kept["stage"], kept["verdict"] = Stage(kept["stage"]), Verdict(kept["verdict"])
    return [(name, Comparison(**kept)) for name, kept in found]


def run_job(folder: Path) -> None:
    """Make the comparisons and lay down what they show."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        looks = [_look(told, arrays, i) for i, told in enumerate(job["looks"])]
        pools = _pools(looks, arrays)
    found = []
    for look in looks:
        pool = None if look.control.multiple else pools.get(look.control.data_key)
        found.append((look.control.name, asdict(look.compare(job["seed"], pool))))
    half = folder / f"{RESULT}.part"
    half.write_text(json.dumps(found), encoding="utf-8")
    half.replace(folder / RESULT)


def _pools(looks: Sequence[Look], arrays: Mapping[str, Any]) -> dict[str, PoolPrior]:
    return {
        key: PoolPrior(power_normalise(arrays[f"pool_{key}"]))
        for key in {look.control.data_key for look in looks}
        if f"pool_{key}" in arrays
    }


def _look(told: Mapping[str, Any], arrays: Mapping[str, Any], i: int) -> Look:
    control = {**told["control"], "classes": tuple(told["control"]["classes"])}
    return Look(
        Control(**control),
        Stage(told["stage"]),
        Labelled(arrays[f"picked_x_{i}"], arrays[f"picked_y_{i}"]),
        Labelled(arrays[f"audit_x_{i}"], arrays[f"audit_y_{i}"]),
        told["before"],
    )


if __name__ == "__main__":
    os.nice(NICE)
    run_job(Path(sys.argv[1]))
