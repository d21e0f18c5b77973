"""From starting the server until it has answered the first prediction.

    python -m benchmarks.start_up [--repeats 5] [--workers 2] [--json]

* *known*: `tiebreak serve` with a champion and an embedded image, until `/predict` of it is
  answered;
* *new*: the same, until an image is answered that nobody has embedded: torch and the network are
  loaded for it (MobileNetV3-small at 32 px, random weights);
* *usual*: a process that imports torch and torchvision, makes an eager MobileNetV2 of a file and
  sends one picture through, without any server, until it says its prediction.

No side's clock runs while its processes end. CPU seconds are those of all the processes together,
until their end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import torch
import torchvision

from benchmarks.report import report, say
from tests.backend.real_server import SETTINGS, data_uri, prepare
from tests.tiebreak_process import TiebreakServer, start

USUAL = """
import sys, torch, torchvision
network = torchvision.models.mobilenet_v2(weights=None)
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
network.eval()
with torch.no_grad():
    print(int(network(torch.zeros(1, 3, 224, 224)).argmax()), flush=True)
"""


def until_answered(folder: Path, workers: int, uri: str) -> float:
    """Start a server, ask until it answers about an image, and end it; when it answered."""
    settings = SETTINGS | {
        "TIEBREAK_WEIGHTS_DIR": str(folder / "weights"),
        "TIEBREAK_WORKERS": str(workers),
        "TIEBREAK_PREDICT_SECONDS": "60",
    }
    server = TiebreakServer(folder, **settings)
    process = start("serve", server.log, server.variables)
    body = {"project": "1.1", "tasks": [{"id": 1, "data": {"image": uri}}]}
    log_in = ("tiebreak", SETTINGS["TIEBREAK_PASSWORD"])
    try:
        with httpx.Client(base_url=server.url, auth=log_in, timeout=60, trust_env=False) as client:
            while True:
                assert process.poll() is None, server.said()
                try:
                    answer = client.post("/predict", json=body)
                except httpx.TransportError:
                    time.sleep(0.01)
                    continue
                answered = time.perf_counter()
                assert answer.json()["results"][0]["result"], answer.text
                return answered
    finally:
        process.terminate()
        process.wait(60)


def until_predicted(command: list[str]) -> float:
    """Run a process that says its prediction, to its end; when it said it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        predicted = time.perf_counter()
    assert said.strip().isdigit(), said
    assert process.returncode == 0, process.returncode
    return predicted


def timed(work: Callable[[], float]) -> dict[str, float]:
    """Seconds until the answer, and the CPU seconds of the children until their end."""
    began, before = time.perf_counter(), os.times()
    ended = work()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user
    return {"seconds": ended - began, "cpu_seconds": cpu - before.children_system}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="what it prints anyway")
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"known": [], "new": [], "usual": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        weights = folder / "usual.pth"
        torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), weights)
        command = [sys.executable, "-c", USUAL, str(weights)]
        for turn in range(given.repeats):
            new = data_uri((turn, 200, 10))
            sides: dict[str, Callable[[], float]] = {
                "known": lambda: until_answered(folder, given.workers, "/data/1.png"),
                "new": lambda new=new: until_answered(folder, given.workers, new),
                "usual": lambda: until_predicted(command),
            }
            for side, work in sides.items():
                found[side].append(timed(work))
            say(", ".join(f"{s} {v[-1]['seconds']:.2f} s" for s, v in found.items()))
    medians = {
        side: {key: round(float(np.median([v[key] for v in values])), 2) for key in values[0]}
        for side, values in found.items()
    }
    report({"workers": given.workers, "repeats": given.repeats} | medians)


if __name__ == "__main__":
    main()
