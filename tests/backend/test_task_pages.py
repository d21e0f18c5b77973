"""Lists of tasks in several pages, asked for a few at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import LabelStudioError
from backend.labelstudio_tasks import AT_A_TIME, TaskCalls, field_filter


class DataManager:
    """Answers as Label Studio's list of tasks does, with pages of at most ``longest``."""

    def __init__(self, tasks: Mapping[int, int], longest: int, pause: float = 0.0) -> None:
        self.tasks, self.longest, self.pause = dict(tasks), longest, pause
        self.calls, self.at_once, self.most_at_once, self.broken_at = 0, 0, 0, 0
        self._lock = threading.Lock()

    def get(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        assert path == "/api/tasks"
        with self._lock:
            self.calls += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            number = self.calls
        time.sleep(self.pause)
        with self._lock:
            self.at_once -= 1
        if number == self.broken_at:
            raise LabelStudioError("out of order")
        query = json.loads(params["query"])
        found = sorted(t for t in self.tasks if self._passes(t, query["filters"]["items"]))
        found = found[::-1] if query["ordering"] == ["-tasks:id"] else found
        page = found[: min(int(params["page_size"]), self.longest)]
        return {"tasks": [{"id": task} for task in page], "total": len(found)}

    def _passes(self, task: int, items: list[dict[str, Any]]) -> bool:
        def one(item: dict[str, Any]) -> bool:
            child = item.get("child_filter")
            value = task if item["filter"] == "filter:tasks:id" else self.tasks[task]
            wanted = item["value"]
            passes = {
                "greater": lambda: value > wanted,
                "in": lambda: wanted["min"] <= value <= wanted["max"],
            }[item["operator"]]()
            return bool(passes and (child is None or one(child)))

        return not items or any(map(one, items))


class Lister(TaskCalls):
    def __init__(self, manager: DataManager) -> None:
        self._http = manager  # type: ignore[assignment]


def _ids(manager: DataManager, size: int = 1000, **either: Any) -> list[int]:
    pages = Lister(manager).pages(1, {"include": "id", "page_size": size}, **either)
    return [row["id"] for page in pages for row in page]


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 10**6), st.integers(0, 3), max_size=60),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_every_task_comes_once_and_in_order(tasks: dict[int, int], size: int, longest: int) -> None:
    assert _ids(DataManager(tasks, longest), size) == sorted(tasks)
    some = [field_filter("annotations", "greater", 0), field_filter("annotations", "greater", 2)]
    labelled = sorted(task for task, count in tasks.items() if count > 0)
    assert _ids(DataManager(tasks, longest), size, either=some) == labelled


def test_a_few_pages_are_asked_for_at_a_time() -> None:
    manager = DataManager(dict.fromkeys(range(1, 2001), 0), 100, pause=0.02)
    assert _ids(manager, 100) == list(range(1, 2001))
    # One page, the last number, and 19 spans of a page each.
    assert manager.calls == 21
    assert 2 <= manager.most_at_once <= AT_A_TIME


def test_one_page_is_one_request() -> None:
    manager = DataManager({1: 0, 7: 0}, 1000)
    assert _ids(manager) == [1, 7]
    assert manager.calls == 1


def test_a_page_that_fails_is_told_and_the_others_are_given_up() -> None:
    manager = DataManager(dict.fromkeys(range(1, 4001), 0), 10, pause=0.001)
    manager.broken_at = 9
    with pytest.raises(LabelStudioError, match="out of order"):
        _ids(manager, 10)
    assert manager.calls < 100
