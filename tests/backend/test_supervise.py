from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import SetupError
from backend.supervise import ChildSpec, Supervisor, tail

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


def eventually(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # an orphan that nobody has waited for is as good as gone
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append, grace=5.0, first_backoff=0.05, last_backoff=0.2)
    yield supervisor
    supervisor.kill()
    supervisor.stop()


def script(folder: Path, name: str, text: str) -> ChildSpec:
    """A child that runs ``text`` with ``here`` set to ``folder``."""
    path = folder / f"{name}.py"
    path.write_text(
        f"from pathlib import Path\nhere = Path({str(folder)!r})\n" + textwrap.dedent(text)
    )
    return ChildSpec(name, (sys.executable, "-u", str(path)), folder / "logs" / f"{name}.log")


SLEEPS = """
    import os, time
    (here / "{0}.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_a_child_writes_to_its_log_and_gets_its_environment(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    spec = script(tmp_path, "talker", "import os; print('hello', os.environ['SPOKEN'])")
    spec = ChildSpec(spec.name, spec.command, spec.log, {"SPOKEN": "to you"})
    supervisor.start(spec)
    eventually(lambda: "hello to you\n" in tail(spec.log) + "\n")


def test_ctrl_c_of_the_terminal_does_not_reach_a_child(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    supervisor.start(script(tmp_path, "a", SLEEPS.format("a")))
    pid = supervisor.pid("a")
    assert pid is not None
    eventually((tmp_path / "a.pid").exists)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    assert int((tmp_path / "a.pid").read_text()) == pid  # the leash became the command


def test_stop_is_in_reverse_order_and_waits_for_each(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    text = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.2)
            with (here / "order").open("a") as file: file.write("{0}")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        (here / "{0}.ready").touch()
        time.sleep(600)
    """
    for name in "abc":
        supervisor.start(script(tmp_path, name, text.format(name)))
    for name in "abc":
        eventually((tmp_path / f"{name}.ready").exists)
    supervisor.stop()
    assert (tmp_path / "order").read_text() == "cba"


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(
    tmp_path: Path, said: list[str]
) -> None:
    supervisor = Supervisor(said.append, grace=0.3)
    supervisor.start(
        script(
            tmp_path,
            "deaf",
            """
            import signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (here / "grandchild.tmp").write_text(str(child.pid))
            (here / "grandchild.tmp").rename(here / "grandchild")
            time.sleep(600)
            """,
        )
    )
    eventually((tmp_path / "grandchild").exists)
    grandchild = int((tmp_path / "grandchild").read_text())
    pid = supervisor.pid("deaf")
    assert pid is not None
    supervisor.stop()
    assert gone(pid)
    eventually(lambda: gone(grandchild))
    assert said == ["deaf is still busy after 0.3 s; it is killed."]


def test_a_killed_child_is_started_again_and_said_so(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.start(script(tmp_path, "a", SLEEPS.format("a")))
    first = supervisor.pid("a")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until = threading.Event()
    watcher = threading.Thread(target=supervisor.watch, args=(until,))
    watcher.start()
    eventually(lambda: said and said[-1] == "a is started again.")
    until.set()
    watcher.join()
    second = supervisor.pid("a")
    assert second not in (None, first)
    assert said[0].startswith("a ended (signal SIGKILL); starting it again in 0.05 s.")


def test_back_off_doubles_up_to_its_limit(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.start(script(tmp_path, "a", "raise SystemExit(3)"))

    def deaths() -> int:
        supervisor.look()
        return sum("ended" in line for line in said)

    eventually(lambda: deaths() >= 4)
    waits = [float(line.split(" in ")[1].split(" s.")[0]) for line in said if "ended" in line]
    # a child that lived as long as the longest back-off (a slow machine) begins at the first again
    assert waits[0] == 0.05
    assert set(waits) <= {0.05, 0.1, 0.2}
    for earlier, later in itertools.pairwise(waits):
        assert later in (0.05, min(2 * earlier, 0.2))
    assert "exit code 3" in said[0]


def test_a_death_at_start_up_shows_the_last_words(tmp_path: Path, supervisor: Supervisor) -> None:
    spec = script(tmp_path, "a", "print('port is taken'); raise SystemExit(1)")
    supervisor.start(spec)
    eventually(lambda: supervisor.pid("a") is None)
    with pytest.raises(SetupError, match="port is taken") as caught:
        supervisor.ensure_alive("a")
    assert str(spec.log) in caught.value.mend


def test_the_log_of_the_run_before_is_kept_beside(tmp_path: Path, supervisor: Supervisor) -> None:
    spec = script(tmp_path, "a", "print('now')")
    spec.log.parent.mkdir()
    spec.log.write_text("earlier\n")
    supervisor.start(spec)
    eventually(lambda: tail(spec.log) == "now")
    assert (spec.log.parent / "a.old.log").read_text() == "earlier\n"


def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path, supervisor: Supervisor) -> None:
    with pytest.raises(SetupError, match="/no/such/program for a does not exist"):
        supervisor.start(ChildSpec("a", ("/no/such/program",), tmp_path / "a.log"))


def test_kill_ends_a_stop_that_waits(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(said.append, grace=600)
    text = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    text += "(here / 'ready').touch()\ntime.sleep(600)\n"
    supervisor.start(script(tmp_path, "deaf", text))
    eventually((tmp_path / "ready").exists)
    stopping = threading.Thread(target=supervisor.stop)
    stopping.start()
    eventually(lambda: supervisor.stopping)
    supervisor.kill()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="the leash needs Linux")
def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    spec = script(tmp_path, "a", SLEEPS.format("a"))
    program = f"""
import sys, time
from pathlib import Path
from backend.supervise import ChildSpec, Supervisor
Supervisor(print).start(ChildSpec("a", {spec.command!r}, Path({str(spec.log)!r})))
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        eventually(lambda: (tmp_path / "a.pid").exists() and (tmp_path / "a.pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    child = int((tmp_path / "a.pid").read_text())
    eventually(lambda: gone(child))


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log) == ""
    log.write_text("".join(f"line {n}\n" for n in range(5000)))
    assert tail(log, 2) == "line 4998\nline 4999"


PULSES = """
    import os, time
    (here / "{0}.pid").write_text(str(os.getpid()))
    writer = int(os.environ["TIEBREAK_PULSE"])
    while not (here / "hang").exists():
        os.write(writer, b".")
        time.sleep(0.05)
    time.sleep(600)
"""


def test_a_child_that_gives_no_sign_of_life_is_ended_and_started_again(
    tmp_path: Path, supervisor: Supervisor, said: list[str]
) -> None:
    supervisor.start(replace(script(tmp_path, "a", PULSES.format("a")), silence=2.0))
    first = supervisor.pid("a")
    assert first is not None
    eventually((tmp_path / "a.pid").exists)
    watched_for = time.monotonic() + 2.5
    while time.monotonic() < watched_for:
        supervisor.look()
        time.sleep(0.02)
    assert supervisor.pid("a") == first
    os.kill(first, signal.SIGSTOP)

    def restarted() -> bool:
        supervisor.look()
        return supervisor.pid("a") not in (None, first)

    eventually(restarted)
    assert said[0] == "a gave no sign of life for 2 s; it is ended."
    assert "signal SIGKILL" in said[1]
    assert gone(first)
