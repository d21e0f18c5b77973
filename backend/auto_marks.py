"""The mark by which an annotation is known as Tiebreak's own, in Label Studio itself.

The id of each result entry names the run that accepted it and a digest of what it says about which
task. So the mark needs no table: whoever reads the annotation can tell. Label Studio keeps the id
when a person opens and saves the annotation; where the answer has changed, the digest no longer
fits. Either way it counts as that person's from then on: what was saved in the editor has the
seconds that it was open for, and what Tiebreak wrote has none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_MARK = re.compile(r"tiebreak-auto-(\d{1,10})-([0-9a-f]{12})")


def marked(task_id: int, run: int, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Result entries with the mark of a run in place of their own ids."""
    return [
        {**item, "id": f"tiebreak-auto-{run}-{_digest(task_id, item)}", "origin": "prediction"}
        for item in items
    ]


def run_of(task_id: int, result: Sequence[Mapping[str, Any]]) -> int | None:
    """The run that wrote a result; None where a person did, or changed any of it."""
    runs = {_run_of_item(task_id, item) for item in result}
    return runs.pop() if len(runs) == 1 else None


def bears_mark(result: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run wrote any of a result, before or after somebody changed it."""
    return any(_MARK.fullmatch(str(item.get("id"))) for item in result)


def _run_of_item(task_id: int, item: Mapping[str, Any]) -> int | None:
    found = _MARK.fullmatch(str(item.get("id")))
    if not found or found[2] != _digest(task_id, item):
        return None
    return int(found[1])


def _digest(task_id: int, item: Mapping[str, Any]) -> str:
    said = [task_id, item.get("from_name"), item.get("to_name"), item.get("value")]
    canonical = json.dumps(said, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
