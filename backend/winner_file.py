"""What a search found, as a settings file that a shell or a service loads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.errors import SetupError
from backend.settings import variable_name
from backend.tuning_options import TUNED


def write_winner(
    path: Path, options: Mapping[str, Any], fixed: Mapping[str, Any], comments: Sequence[str]
) -> None:
    """Write ``TIEBREAK_…=value`` lines: ``fixed`` settings and the tuned ``options``.

    ``comments`` go above, one line each. The file that was there stays until this one is whole.
    :class:`SetupError` when it cannot be written.
    """
    values = dict(fixed) | {TUNED[name]: options[name] for name in TUNED}
    lines = [f"# {_one_line(comment)}" for comment in comments]
    lines += [f"{variable_name(name)}={_shown(value)}" for name, value in values.items()]
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}).", mend="Name another place with --out."
        ) from None


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
