"""Lets each writing call of a promotion fail in turn, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from backend.champion import Champions
from backend.lease import Leases
from backend.settings import Settings
from backend.store import Store
from backend.tables import Embedding
from backend.training import train
from model.weights import file_digest
from tests.backend.conftest import Tables
from tests.backend.failing_disk import FailingDisk
from tests.backend.saved_versions import IDENTITY, embed_again

ROOT = Path(__file__).parents[2]


def prepare(folder: Path) -> None:
    """Two versions, the second one serving, and labels that nothing has learned yet."""
    settings = Settings(data_dir=folder, audit_share=0.1)
    store = Store(settings.database_address)
    store.migrate()
    tables, leases = Tables(store), Leases(store, "test", 1e9)
    assert leases.acquire(1)
    classes = tables.clusters(60)
    embed_again(tables)
    for last in (20, 30, 40):
        for task in range(1 if last == 20 else last - 9, last + 1):
            tables.label(task, classes[task - 1])
        if last < 40:
            champion = Champions(store, folder).get(1)
            assert train(store, leases, settings, 1, IDENTITY, champion).kept
    tuned = folder / "finetunes" / "tuned.safetensors"
    tuned.parent.mkdir()
    tuned.write_bytes(np.random.default_rng(0).bytes(50_000))
    _embed_by_tuned(tables, tuned)
    store.close()


def _embed_by_tuned(tables: Tables, tuned: Path) -> None:
    """The tuned network sees the same in every image as the original one."""
    identity = f"tuned-{file_digest(tuned)[:8]}-32px"
    with tables.store.write() as session:
        for row in session.scalars(select(Embedding).where(Embedding.backbone == IDENTITY)).all():
            session.add(Embedding(digest=row.digest, backbone=identity, vector=row.vector))


def run_attack(
    tmp_path: Path, kind: str, error: int, *, sticky: bool = False, every: int = 1
) -> dict[str, Any]:
    """What a process saw that was attacked."""
    prepare(tmp_path / "before")
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = FailingDisk(folder, tmp_path / "scratch")
    arguments = [str(folder), kind, str(error), str(int(sticky)), str(every)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.promotion_under_failure", *arguments],
        cwd=ROOT,
        env={**os.environ, **disk.environment, "OMP_NUM_THREADS": "1", "DATABASE_URL": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(tmp_path / "disk")
    return dict(json.loads(done.stdout))
