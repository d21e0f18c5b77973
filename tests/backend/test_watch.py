"""Whether a step that hangs is noticed, and one that works is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from backend.pulse import START_SECONDS, VARIABLE, Listener
from backend.watch import LONGEST_NAP, Watch
from backend.watchdog import Watchdog

ROOT = Path(__file__).parents[2]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def tick(clock: Clock, watch: Watch, seconds: float) -> float | None:
    """Let time pass as a watchdog sees it; after how many seconds a hang was seen."""
    began = clock.now
    while clock.now < began + seconds:
        clock.now += 1
        if watch.hang():
            return clock.now - began
    return None


def test_a_step_without_progress_hangs_after_its_limit() -> None:
    clock = Clock()
    watch = Watch(clock)
    assert tick(clock, watch, 1000) is None
    watch.begin("Training", 30, 3, "train")
    assert tick(clock, watch, 100) == 31
    hang = watch.hang()
    assert hang is not None
    assert (hang.project_id, hang.step) == (3, "train")
    assert hang.sentence == "Training of project 3 has shown no progress for 31 s."
    watch.begin("Looking for work", 30)
    assert watch.hang() is None


def test_progress_begins_the_time_anew() -> None:
    clock = Clock()
    watch = Watch(clock)
    watch.begin("Embedding", 30, 1, "embed_pool")
    for _ in range(10):
        assert tick(clock, watch, 29) is None
        watch.progress()
    assert tick(clock, watch, 100) == 31


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    clock = Clock()
    watch = Watch(clock)
    watch.begin("Training", 30, 1, "train")
    assert tick(clock, watch, 20) is None
    clock.now += 5000
    assert watch.hang() is None
    # Of the nap no more than the longest pause between two looks is counted.
    assert tick(clock, watch, 100) == 31 - 20 - LONGEST_NAP


def test_a_listener_hears_and_misses_a_child() -> None:
    clock = Clock()
    listener = Listener(20, clock)
    assert listener.environment() == {VARIABLE: str(listener.writer)}

    def after(seconds: int) -> bool:
        found = False
        for _ in range(seconds):
            clock.now += 1
            found = listener.is_silent()
        return found

    assert not after(int(START_SECONDS))
    assert after(1)
    os.write(listener.writer, b"..")
    assert not listener.is_silent()
    assert not after(20)
    assert after(1)
    listener.restart()
    assert not after(21)
    os.write(listener.writer, b".")
    assert not after(1)
    clock.now += 1000
    assert not listener.is_silent()
    listener.close()


def test_stopping_takes_no_longer_than_it_may() -> None:
    told: list[object] = []
    given_up, stopping = threading.Event(), threading.Event()

    def give_up(hang: object) -> None:
        told.append(hang)
        given_up.set()

    dog = Watchdog(Watch(), stopping, 0.2, give_up)
    dog.start()
    assert not given_up.wait(1.2)
    stopping.set()
    assert given_up.wait(20)
    dog.stop()
    assert told[0] is None


def test_a_library_that_keeps_the_interpreter_is_ended_from_below() -> None:
    script = """
        import faulthandler, re, threading
        from backend import watchdog
        from backend.watch import Watch
        watchdog.GUARD_SECONDS = 0.2
        watchdog.Watchdog(Watch(), threading.Event(), 60, print, 3).start()
        watchdog.time.sleep(1)
        print("deep inside", flush=True)
        re.match("(a+)+$", "a" * 60 + "b")
    """
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "deep inside\n"
    assert done.returncode == 1
    assert "Timeout (" in done.stderr
    assert time.monotonic() - began < 60
