"""What the benchmarks of the whole loop share: a real Label Studio, Tiebreak, and the digits.

They stand on the tools of the end-to-end tests and want what ``make test`` installs.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.demo import write_digits
from benchmarks.report import say
from model.backbones import BACKBONES
from model.weights import find_weights
from tests.e2e.digits import Digits
from tests.e2e.label_studio_server import LabelStudioServer, prepare_template
from tests.e2e.tiebreak_processes import TiebreakProcesses
from tests.tiebreak_process import REPOSITORY

FAST_IMPORT = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"


@dataclass(frozen=True)
class Loop:
    """A running Label Studio with Tiebreak beside it, and the digits to label."""

    label_studio: LabelStudioServer
    tiebreak: TiebreakProcesses
    digits: Digits


@contextmanager
def running_loop(
    *, fast_import: bool, studio_env: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Loop]:
    """Start everything in a temporary folder and stop it at the end.

    ``studio_env`` goes into Label Studio's environment, ``settings`` are Tiebreak's.
    """
    # Stopped from outside, Python would leave the children running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("Label Studio starts")
        env = {FAST_IMPORT: "true" if fast_import else "false", **(studio_env or {})}
        template = None if "DJANGO_DB" in env else prepare_template(cache)
        studio = LabelStudioServer(folder / "label-studio", template, env)
        weights = find_weights(
            BACKBONES["mobilenet_v2"].pretrained,
            weights_dir=None,
            cache_dir=cache / "weights",
            on_progress=say,
        )
        images = folder / "digits"
        write_digits(images)
        tiebreak = TiebreakProcesses(
            folder / "tiebreak",
            studio,
            weights.parent,
            {
                "TIEBREAK_INPUT_SIZE": "224",
                "TIEBREAK_QUIET_SECONDS": "0.5",
                "TIEBREAK_TRANSFER": "features",
                **settings,
            },
        )
        try:
            studio.start()
            say("Tiebreak starts")
            tiebreak.start()
            yield Loop(studio, tiebreak, Digits(studio, images))
        finally:
            tiebreak.close()
            studio.close()
