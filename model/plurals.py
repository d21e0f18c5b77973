"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """The count with its noun: "1 label", "1,200 labels", "2 classes"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{_ending(noun)}"


def _ending(noun: str) -> str:
    return "es" if noun.endswith("s") else "s"
