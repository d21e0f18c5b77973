"""Packages that Tiebreak does without until they are asked for."""

from __future__ import annotations

import shlex
import sys


def pip_install(*packages: str) -> str:
    """The command that installs packages where this interpreter finds them."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])
