"""``tiebreak up``: everything at once, on this machine, until ctrl-c.

Nothing here holds state that a run needs: kill it at any instant, and the next one finds what there
is. What is brought up, and in which order, is in :mod:`backend.bring_up`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType

from rich.console import Console

from backend.bring_up import Everything, Ready
from backend.errors import SetupError
from backend.settings import Settings
from backend.steps import Steps
from backend.supervise import Supervisor
from backend.what_is_up import LOCK, told

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_up(
    settings: Settings,
    *,
    images: Path | None,
    classes: list[str] | None,
    title: str | None,
    console: Console,
    as_json: bool = False,
) -> int:
    """Start everything, watch over it until SIGINT, SIGTERM or SIGHUP, and stop everything.

    ``images`` and ``classes`` name the caller's own images; the digits when both are None. With
    ``as_json`` one JSON object with the addresses goes to standard output once all is up. The exit
    code is 0; every failure is a :class:`~model.errors.TiebreakError`, and by then nothing runs
    any more. A second signal kills at once. Call it from the main thread.
    """
    steps = Steps(console)
    supervisor = Supervisor(steps.warn)
    with _only_one(settings.data_dir), _signals_interrupt(supervisor):
        try:
            ready = Everything(settings, steps, supervisor).start(images, classes, title)
            with told(
                settings.data_dir,
                label_studio_url=ready.label_studio_url,
                own=ready.account is not None,
                host=settings.host,
                port=settings.port,
            ):
                _tell(steps, ready, as_json)
                supervisor.watch(Event())
        except KeyboardInterrupt:
            steps.say("")
            with steps.step("Everything stops"):
                supervisor.stop()
        finally:
            supervisor.stop()
    return 0


def _tell(steps: Steps, ready: Ready, as_json: bool) -> None:
    steps.say("")
    steps.say(f"Label here:   {ready.label_url}")
    if ready.account:
        steps.say(f"Log in as:    {ready.account.email}  with  {ready.account.password}")
    steps.say(f"Status page:  {ready.backend_url}/  wants {ready.log_in}")
    steps.say("ctrl-c stops everything; the same command brings it back, labels and all.")
    if as_json:
        addresses = {
            "label_url": ready.label_url,
            "label_studio_url": ready.label_studio_url,
            "backend_url": ready.backend_url,
            "project": ready.project,
        }
        print(json.dumps(addresses), flush=True)


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; the lock goes with the process, however that ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / LOCK).open("a+")
    except OSError as error:
        raise SetupError(
            f"TIEBREAK_DATA_DIR={data_dir} cannot be used ({error.strerror}).",
            mend="Name a folder that you may write to.",
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            raise SetupError(
                f"Tiebreak is up already, as process {handle.read().strip()}, with the data "
                f"folder {data_dir}.",
                mend="Stop it with ctrl-c where it runs; or give this one a TIEBREAK_DATA_DIR, "
                "TIEBREAK_PORT and TIEBREAK_LABEL_STUDIO_PORT of its own.",
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


@contextmanager
def _signals_interrupt(supervisor: Supervisor) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if supervisor.stopping:
            supervisor.kill()
        else:
            supervisor.stopping = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
