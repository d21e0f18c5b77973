"""Child processes: started, watched, started again when they die, and always stopped.

Each child leads a session of its own, so a ctrl-c in the terminal reaches only the supervisor,
which then stops the children in the reverse of the order in which they were started: SIGTERM, a
grace period, SIGKILL to whatever is left of the child's process group. Should the supervisor
itself be killed, :mod:`backend.leash` ends the children where the system can do that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from backend.errors import SetupError
from backend.pulse import Listener

POLL_SECONDS = 0.1
LEASH = Path(__file__).with_name("leash.py")


@dataclass(frozen=True)
class ChildSpec:
    """What to run: ``command[0]`` is a path or a name on PATH.

    ``env`` is added to this process's environment, or takes its place when ``whole_env``.
    ``log`` gets all that it writes, restarts included; the log of an earlier run is kept beside
    it as ``….old.log``. With ``silence`` the child gives signs of life (:mod:`backend.pulse`), and
    one that gives none for so many seconds is ended and started again.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    whole_env: bool = False
    silence: float | None = None


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes]
    started: float
    listener: Listener | None = None
    failures: int = 0
    again_at: float | None = None


class Supervisor:
    """The children of one ``tiebreak up``.

    ``say``            told in one sentence about every death and restart
    ``grace``          seconds between SIGTERM and SIGKILL, for each child
    ``first_backoff``  seconds before the first restart; doubled for each further death, up to
                       ``last_backoff``, and forgotten once a child has lived ``last_backoff``
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        grace: float = 30.0,
        first_backoff: float = 1.0,
        last_backoff: float = 30.0,
    ) -> None:
        self.stopping = False
        self._say = say
        self._grace = grace
        self._first_backoff = first_backoff
        self._last_backoff = last_backoff
        self._children: dict[str, _Child] = {}

    def start(self, spec: ChildSpec) -> None:
        """Start a child. SetupError when its program does not exist or is started already."""
        if spec.name in self._children:
            raise SetupError(f"{spec.name} is started already.")
        listener = Listener(spec.silence) if spec.silence else None
        process = _spawn(spec, listener)
        self._children[spec.name] = _Child(spec, process, time.monotonic(), listener)

    def pid(self, name: str) -> int | None:
        """Process id of a child, None while it is not running."""
        process = self._children[name].process
        return process.pid if process.poll() is None else None

    def ensure_alive(self, name: str) -> None:
        """SetupError with the end of the child's log when it has died; for use during start-up."""
        child = self._children[name]
        status = child.process.poll()
        if status is not None:
            raise SetupError(
                f"{name} ended ({how_it_ended(status)}). Its last words:\n{tail(child.spec.log)}",
                mend=f"All of its words are in {child.spec.log}.",
            )

    def look(self) -> None:
        """End what gives no sign of life, and start again whatever has died, after its back-off."""
        now = time.monotonic()
        for child in () if self.stopping else self._children.values():
            status = child.process.poll()
            if status is None:
                self._listen(child)
            elif child.again_at is None:
                self._plan_restart(child, status, now)
            elif now >= child.again_at:
                if child.listener is not None:
                    child.listener.restart()
                child.process = _spawn(child.spec, child.listener, again=True)
                child.started, child.again_at = now, None
                self._say(f"{child.spec.name} is started again.")

    def _listen(self, child: _Child) -> None:
        """A child that hangs does not heed SIGTERM either."""
        if child.listener is not None and child.listener.is_silent():
            silence = child.listener.seconds
            self._say(f"{child.spec.name} gave no sign of life for {silence:.3g} s; it is ended.")
            signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()

    def watch(self, until: Event) -> None:
        """Look after the children until ``until`` is set."""
        while not until.wait(POLL_SECONDS):
            self.look()

    def stop(self) -> None:
        """Stop every child, the last started first; returns when all of them are gone."""
        self.stopping = True
        for child in reversed(self._children.values()):
            self._stop_one(child)
            if child.listener is not None:
                child.listener.close()
        self._children.clear()

    def kill(self) -> None:
        """SIGKILL to every child at once; safe in a signal handler."""
        for child in list(self._children.values()):
            if child.process.returncode is None:
                signal_group(child.process.pid, signal.SIGKILL)

    def _plan_restart(self, child: _Child, status: int, now: float) -> None:
        signal_group(child.process.pid, signal.SIGKILL)  # what it may have left running
        if now - child.started >= self._last_backoff:
            child.failures = 0
        wait = min(self._first_backoff * 2**child.failures, self._last_backoff)
        child.failures += 1
        child.again_at = now + wait
        self._say(
            f"{child.spec.name} ended ({how_it_ended(status)}); starting it again in {wait:.3g} s. "
            f"Its words are in {child.spec.log}."
        )

    def _stop_one(self, child: _Child) -> None:
        child.process.terminate()
        try:
            child.process.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._say(f"{child.spec.name} is still busy after {self._grace:.3g} s; it is killed.")
        signal_group(child.process.pid, signal.SIGKILL)
        child.process.wait()


def run_once(spec: ChildSpec, waiting: Callable[[], None]) -> int:
    """Run a program to its end and give its exit code; ``waiting`` is called all the while."""
    process = _spawn(spec)
    try:
        while process.poll() is None:
            waiting()
            time.sleep(POLL_SECONDS)
        return process.returncode
    finally:
        if process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
            process.wait()


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _spawn(
    spec: ChildSpec, listener: Listener | None = None, again: bool = False
) -> subprocess.Popen[bytes]:
    program = shutil.which(spec.command[0])
    if program is None:
        raise SetupError(
            f"The program {spec.command[0]} for {spec.name} does not exist or cannot be run."
        )
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    if spec.log.exists() and not again:
        spec.log.replace(spec.log.with_suffix(".old.log"))
    # -I and -S: only the standard library, found the same wherever this runs
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
    env = dict(spec.env) if spec.whole_env else {**os.environ, **spec.env}
    with spec.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            [*leash, os.path.abspath(program), *spec.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env | (listener.environment() if listener else {}),
            pass_fds=(listener.writer,) if listener else (),
            start_new_session=True,
        )


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process group, if there is one."""
    # PermissionError is macOS's word for a zombie
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def how_it_ended(status: int) -> str:
    """A return code of :mod:`subprocess` in words."""
    if status >= 0:
        return f"exit code {status}"
    return f"signal {signal.Signals(-status).name}"
