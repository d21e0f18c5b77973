"""Names of classes, controls and task fields as names of files and folders, on any system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 80
"""Bytes of a name, with room for a number behind it; file systems take 255."""

# Letters, digits and _ of any script stay; a name begins with no dot, dash or space.
_UNSAFE = re.compile(r"[^\w .()+,-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(text: str) -> str:
    """``text`` as one name of a file or folder; never empty, ``.`` or ``..``, or with a slash."""
    plain = _UNSAFE.sub("_", unicodedata.normalize("NFC", text))
    short = plain.encode()[:LONGEST].decode(errors="ignore").strip(" .-")
    return f"_{short}" if not short or _RESERVED.fullmatch(short) else short


def safe_names(texts: Iterable[str]) -> dict[str, str]:
    """Each text → a safe name of its own, also where capitals make no difference.

    Where several texts would have the same name, the later ones get a number behind it.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        name, number = safe_name(text), 1
        while _folded(name) in taken:
            number += 1
            name = f"{safe_name(text)}-{number}"
        taken.add(_folded(name))
        names[text] = name
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
