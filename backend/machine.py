"""What an experiment ran on, in words."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch


def machine_name() -> str:
    """As in ``an NVIDIA H200 with torch 2.11``."""
    return f"{_computes()} with torch {torch.__version__.partition('+')[0]}"


def _computes() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {_processor()}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "an unknown processor"
