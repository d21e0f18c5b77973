"""How benchmarks say what they found, and on which machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from typing import Any


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    names = ("torch", "torchvision", "numpy", "scipy")
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def report(found: dict[str, Any]) -> None:
    """The result as one JSON object on standard output."""
    print(json.dumps(found | {"machine": machine()}, indent=1))
