"""``python -m backend.finetune_job FOLDER``: the child process that fine-tunes.

It reads a job and working copies, and writes into its folder; it needs no database and no network.
It ends with its parent. Killed at any instant, it is started again and goes on from its checkpoint
to the same result.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from backend.errors import EngineError, ImageError
from backend.finetune_files import (
    CHECKPOINT,
    JOB,
    PROGRESS,
    RESULT,
    SKIPPED,
    TUNED,
    Job,
    JobControl,
    JobRow,
    Progress,
    Result,
    Skipped,
    read,
    write,
)
from backend.log_context import imported
from backend.logs import configure_logging
from backend.network_source import NetworkSource
from backend.settings import load_settings
from backend.shared_files import SharedFiles
from backend.working_copies import WorkingCopies
from model.errors import ArgumentError, StorageError, TiebreakError
from model.files import is_of_the_disk, storage_error, writing

if TYPE_CHECKING:
    from model.backbones import Backbone
    from model.control_labels import ControlLabels
    from model.finetune import FineTuned
    from model.finetune_options import FineTuneOptions

log = logging.getLogger(__name__)

LOCK_SECONDS = 60.0
BUSY = 75
"""Exit code when another process works in the folder and does not end."""
NO_DISK = 74
"""Exit code when the disk does not take what is to be written; the last words say which."""
NO_ENGINE = 69
"""Exit code when the cluster that is to learn is not there; the last words say why."""
READERS = 4


def main(folder: Path) -> int:
    """Fine-tune what the job says; the exit code. ``result.json`` says what came of it."""
    with imported(), _alone_in(folder) as alone:
        if not alone:
            return BUSY
        before = read(folder, RESULT, Result)
        if before is not None and before.done:
            return 0
        try:
            result = _outcome(folder)
            with writing("What came of the fine-tune", folder / RESULT):
                write(folder, RESULT, result)
        except StorageError as error:
            log.error("%s", error)
            return NO_DISK
        except EngineError as error:
            log.error("%s", error)
            return NO_ENGINE
        return 0 if result.done else 1


def _outcome(folder: Path) -> Result:
    """What came of it; StorageError or EngineError when only the disk or the cluster is in the
    way."""
    try:
        return _run(folder)
    except (StorageError, EngineError):
        raise
    except TiebreakError as error:
        log.error("%s", error)
        return Result(done=False, reason=str(error), retry=not _final(error))
    except Exception as error:
        if is_of_the_disk(error):
            raise storage_error("The fine-tune", folder, error) from error
        log.exception("unexpected")
        return Result(done=False, reason=f"unexpected {type(error).__name__}: {error}"[:500])


def _final(error: TiebreakError) -> bool:
    """Whether the same job would end in the same error again."""
    return isinstance(error, ArgumentError)


@contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Where the system could not end a child with its parent, two would write one checkpoint."""
    with (folder / "lock").open("w") as handle:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.2)
            else:
                yield True
                return


def _run(folder: Path) -> Result:
    job = read(folder, JOB, Job)
    if job is None:
        raise ArgumentError(f"{folder / JOB} is missing or damaged.")
    os.nice(job.nice)
    # Importing torch takes seconds; nothing above needs it.
    import torch

    from model.tuned import save_network

    torch.set_num_threads(job.threads)
    copies = WorkingCopies(
        job.images,
        job.image_side,
        shared=SharedFiles(job.artifacts, job.s3_endpoint) if job.artifacts else None,
        max_bytes=job.copies_max_bytes,
    )
    tuned, rows, skipped = _learn(folder, job, copies)
    digest = save_network(folder / TUNED, tuned.network)
    best = tuned.epochs[tuned.best_epoch]
    return Result(
        done=True,
        sha256=digest,
        trained=tuple(row.digest for row, flag in zip(rows, tuned.trained, strict=True) if flag),
        improved=tuned.best_epoch > 0,
        skipped=skipped,
        losses=tuple(report.loss for report in tuned.epochs),
        summary={
            "validation_loss": best.loss,
            "validation_accuracy": best.accuracy,
            "best_epoch": best.epoch,
            "epochs": len(tuned.epochs) - 1,
            "rows": len(rows),
            "seconds": round(tuned.seconds, 1),
            "augmentation": tuned.augmentation,
            "batch_size": tuned.batch_size,
        },
    )


def _learn(
    folder: Path, job: Job, copies: WorkingCopies
) -> tuple[FineTuned, Sequence[JobRow], int]:
    """What was learned, from which rows, and how many images were broken."""
    from model.finetune import finetune
    from model.finetune_options import FineTuneOptions

    backbone = NetworkSource(
        identity=job.identity,
        name=job.backbone,
        input_size=job.input_size,
        weights_dir=job.weights_dir,
        weights_cache=job.weights_cache,
    ).load()
    parent = os.getppid()
    skipped = read(folder, SKIPPED, Skipped) or _skip_broken(folder, job, copies)
    while True:
        rows = [row for row in job.rows if row.digest not in skipped.images]
        try:
            labels = control_labels(job.controls, rows)
            options = FineTuneOptions(**job.options.model_dump())
            if job.ray_address:
                tuned = _learn_far(folder, job, backbone, rows, labels, options)
            else:
                tuned = finetune(
                    backbone,
                    partial(_open, copies, rows),
                    labels,
                    options,
                    checkpoint=folder / CHECKPOINT,
                    on_progress=lambda at: write(folder, PROGRESS, Progress(**asdict(at))),
                    cancelled=lambda: os.getppid() != parent,
                )
        except ImageError:
            before, skipped = skipped, _skip_broken(folder, job, copies)
            if skipped == before:
                raise
            # An image broke since it was looked at: without it this is another training.
            shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        else:
            return tuned, rows, len(skipped.images)


def _learn_far(
    folder: Path,
    job: Job,
    backbone: Backbone,
    rows: Sequence[JobRow],
    labels: list[ControlLabels],
    options: FineTuneOptions,
) -> FineTuned:
    """The same on a cluster; EngineError when it is not there."""
    from backend.ray_embedding import Copies
    from backend.ray_training import Cluster, finetune_on_ray

    cluster = Cluster(job.ray_address, job.ray_workers)
    copies = Copies(
        folder=job.images,
        side=job.image_side,
        artifacts=job.artifacts,
        s3_endpoint=job.s3_endpoint,
        max_bytes=job.copies_max_bytes,
    )
    digests = [row.digest for row in rows]
    return finetune_on_ray(cluster, folder, backbone, copies, digests, labels, options)


def _open(copies: WorkingCopies, rows: Sequence[JobRow], row: int) -> Image:
    return copies.open(rows[row].digest)


def _skip_broken(folder: Path, job: Job, copies: WorkingCopies) -> Skipped:
    """Look at every image once, and write down which cannot be read."""

    def problem(row: JobRow) -> str:
        try:
            copies.open(row.digest)
        except ImageError as error:
            log.warning("%s is left out: %s", row.digest[:12], error)
            return error.message
        return ""

    write(folder, PROGRESS, Progress(phase="looking at the images"))
    with ThreadPoolExecutor(READERS) as threads:
        problems = list(threads.map(problem, job.rows))
    skipped = Skipped(
        images={row.digest: why for row, why in zip(job.rows, problems, strict=True) if why}
    )
    write(folder, SKIPPED, skipped)
    return skipped


def control_labels(controls: Sequence[JobControl], rows: Sequence[JobRow]) -> list[ControlLabels]:
    """The rows' labels as arrays, for the controls that there is something to learn of."""
    from model.control_labels import ControlLabels

    found = []
    for control in controls:
        known = np.array([control.name in row.targets for row in rows], dtype=np.bool_)
        flags = np.zeros((len(rows), len(control.classes)), dtype=np.bool_)
        for i, row in enumerate(rows):
            flags[i, list(row.targets.get(control.name, ()))] = True
        varied = flags[known].any(axis=0) & ~flags[known].all(axis=0)
        if varied.any():
            targets = flags if control.multiple else flags.argmax(axis=1).astype(np.int64)
            found.append(
                ControlLabels(control.name, control.classes, control.multiple, targets, known)
            )
    return found


if __name__ == "__main__":
    configure_logging(load_settings(), "fine-tune")
    sys.exit(main(Path(sys.argv[1])))
