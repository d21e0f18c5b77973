"""The engine whose embedding runs on a Ray cluster, through a child process.

Nothing is embedded on this machine instead: without the cluster there is an error, with what to do.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from backend.engine import Embedded, FarEngine, LocalEngine
from backend.errors import EngineError
from backend.log_context import exported
from backend.metrics_files import without_counts
from backend.network_source import network_source
from backend.ray_child import Answer, Request
from backend.ray_cluster import MEND
from backend.ray_embedding import Copies
from backend.settings import Settings
from backend.supervise import LEASH, how_it_ended, signal_group, tail

log = logging.getLogger(__name__)

LOG = "child.log"
WAITING = 4
"""Answers that are read ahead."""
TOLD_EVERY_SECONDS = 1.0


class RayEngine(FarEngine):
    """Embeds on a Ray cluster. Which networks there are is known from this machine's files."""

    def __init__(self, settings: Settings, progress: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._local = LocalEngine(settings, progress)
        self._child: _Child | None = None
        self._lock = threading.Lock()

    @property
    def chunk(self) -> int:
        """Images of one go."""
        return self._settings.ray_chunk

    @property
    def loaded(self) -> bool:
        """Whether the original backbone's weights were found."""
        return self._local.loaded

    @property
    def backbone(self) -> str:
        """Identity of the original backbone. WeightsError when its weights cannot be had."""
        return self._local.backbone

    def can_embed(self, backbone: str) -> bool:
        """Whether embeddings of the backbone of that identity can be made."""
        return self._local.can_embed(backbone)

    def embed_copies(self, digests: Sequence[str], backbone: str) -> Iterator[Embedded]:
        """Embeddings of working copies by the network ``backbone``, each once, as they come.

        Raises:
            EngineError: the cluster cannot be reached, gives up, or is silent for too long. What
                came until then is good.
        """
        settings = self._settings
        request = Request(
            network=network_source(settings, backbone),
            runtime=settings.runtime,
            copies=Copies(
                folder=settings.working_copies.resolve(),
                side=settings.working_copy_side,
                max_pixels=settings.image_max_pixels,
                artifacts=settings.artifacts,
                s3_endpoint=settings.s3_endpoint,
                max_bytes=settings.copies_max_bytes,
            ),
            digests=tuple(digests),
        )
        with self._lock:
            child = self._alive()
            whole = False
            try:
                yield from _once(child.ask(request, settings.ray_seconds), digests)
                whole = True
            finally:
                if not whole:
                    self.close()

    def close(self) -> None:
        """End the child; the next request starts another one."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _alive(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            folder = self._settings.data_dir.resolve() / "ray"
            folder.mkdir(parents=True, exist_ok=True)
            self._child = _Child(self._settings.ray_address, folder / LOG)
        return self._child


def _once(parts: Iterator[Embedded], digests: Sequence[str]) -> Iterator[Embedded]:
    """``parts``, when each of ``digests`` is among them once; else EngineError."""
    missing = set(digests)
    for part in parts:
        if not missing.issuperset(part.digests) or len(set(part.digests)) < len(part.digests):
            raise EngineError("Ray gave an image twice, or one that it was not given.", mend=MEND)
        missing.difference_update(part.digests)
        yield part
    if missing:
        raise EngineError(f"Ray gave {len(missing)} of {len(digests)} images not back.", mend=MEND)


class _Child:
    """The child, and a thread that reads what it says."""

    def __init__(self, address: str, log_path: Path) -> None:
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        command = [*leash, sys.executable, "-m", "backend.ray_child", address]
        self._log_path = log_path
        with log_path.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**without_counts(dict(os.environ)), **exported()},
                start_new_session=True,
            )
        self._answers: queue.Queue[tuple[Answer, bytes] | None] = queue.Queue(WAITING)
        self._ended = threading.Event()
        threading.Thread(target=self._read, name="ray", daemon=True).start()
        self._finalizer = weakref.finalize(self, signal_group, self.process.pid, signal.SIGKILL)
        log.info("the driver of the Ray cluster at %s is process %d", address, self.process.pid)

    def ask(self, request: Request, seconds: float) -> Iterator[Embedded]:
        """What the cluster makes of a request."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request.model_dump_json().encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._broken() from None
        while True:
            answer, data = self._next(seconds)
            if answer.error:
                raise EngineError(answer.error, mend=answer.mend)
            if answer.done:
                return
            yield _embedded(answer, data)

    def end(self) -> None:
        """End it, whatever it is at."""
        self._ended.set()
        self._finalizer()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue

    def _next(self, seconds: float) -> tuple[Answer, bytes]:
        try:
            found = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise EngineError(
                f"The Ray cluster was silent for {seconds:g} s and is asked anew.",
                mend=f"Look whether its workers are there (ray status). {MEND}",
            ) from None
        if found is None:
            raise self._broken()
        return found

    def _broken(self) -> EngineError:
        how = how_it_ended(self.process.wait())
        last = tail(self._log_path, 1)[-300:].strip()
        return EngineError(f"The driver of the Ray cluster ended ({how}). {last}", mend=MEND)

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            while line := self.process.stdout.readline():
                answer = Answer.model_validate_json(line)
                size = len(answer.digests) * answer.width * 2
                data = self.process.stdout.read(size)
                if len(data) < size:
                    break
                self._put((answer, data))
        except (OSError, ValueError, ValidationError):
            log.exception("the driver of the Ray cluster says what cannot be read")
        self._put(None)

    def _put(self, what: tuple[Answer, bytes] | None) -> None:
        while not self._ended.is_set():
            try:
                return self._answers.put(what, timeout=TOLD_EVERY_SECONDS)
            except queue.Full:
                continue


def _embedded(answer: Answer, data: bytes) -> Embedded:
    vectors: NDArray[np.float16] = np.frombuffer(data, dtype="<f2").astype(np.float16, copy=False)
    return Embedded(
        list(answer.digests), vectors.reshape(len(answer.digests), -1), dict(answer.problems)
    )
