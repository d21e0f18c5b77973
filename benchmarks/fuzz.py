"""Requests that try to break the server: of every route, and bytes that are no HTTP.

    python -m benchmarks.fuzz [--requests 10000] [--seed 0] [--json]

A real ``tiebreak serve`` answers them. Half are made by schemathesis of the OpenAPI description,
as many wrong as right ones; a quarter each are bodies of ``/predict`` and ``/webhook`` by
Hypothesis. Label Studio is at an address that refuses connections. Each answer must be as it is
described, none a server error or a traceback; a listener on 127.0.0.1, whose address is among the
images, must never be connected to. Then a twentieth as many times nonsense is sent over a plain
socket. It ends with 1 where anything was at fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from backend.app import create_app
from backend.settings import Settings
from benchmarks.report import report, say
from tests.backend.fuzzing import Fuzzer
from tests.backend.raw_nonsense import nonsense, send
from tests.backend.real_server import RealServer, learned_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, learned_server(Path(name)) as server:
        found = fuzz(server, Path(name) / "described", wanted.requests, wanted.seed)
    if wanted.json:
        report(found)
    else:
        for key, value in found.items():
            print(f"{key}: {value}")
    sys.exit(1 if at_fault(found) else 0)


def fuzz(server: RealServer, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Send everything; what was answered, and what was at fault."""
    began = time.monotonic()
    url = "http://127.0.0.1:9"
    app = create_app(Settings(data_dir=folder, label_studio_url=url, label_studio_api_key="x" * 40))
    fuzzer = Fuzzer(server, app, seed)
    say("predictions ...")
    fuzzer.predictions(count // 4)
    say("webhooks ...")
    fuzzer.webhooks(count // 4)
    say("every route ...")
    fuzzer.every_route(count - 2 * (count // 4))
    say("no HTTP at all ...")
    raw = [send(server.port, data) for data in nonsense(seed, count // 20)]
    app.extensions["tiebreak"].store.close()
    log = server.log.read_text()
    return {
        "requests": fuzzer.found.sent,
        "statuses": dict(sorted(fuzzer.found.statuses.items())),
        "faults": fuzzer.found.faults,
        "canary_connections": fuzzer.canary.close(),
        "raw": len(raw),
        "raw_statuses": {
            status: sum(each.status == status for each in raw)
            for status in sorted({each.status for each in raw})
        },
        "raw_faults": {each.fault: repr(each.sent[:300]) for each in raw if each.fault},
        "tracebacks_logged": log.count('"traceback"'),
        "alive": server.alive(),
        "seconds": round(time.monotonic() - began, 1),
    }


def at_fault(found: dict[str, Any]) -> bool:
    """Whether anything was not as it must be."""
    wrong = ("faults", "raw_faults", "canary_connections", "tracebacks_logged")
    return not found["alive"] or any(found[name] for name in wrong)


if __name__ == "__main__":
    main()
