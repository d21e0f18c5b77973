"""Shares in sentences, when they are what somebody asked for."""

from __future__ import annotations


def percent(share: float) -> str:
    """The share in percent, as it was given and without the sign: "2", "0.04", "99.9"."""
    return f"{100 * share:.10g}"
