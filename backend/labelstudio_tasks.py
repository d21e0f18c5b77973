"""Label Studio's tasks and annotations, read page by page.

Everything goes through the Data Manager's list. ``GET /api/tasks/ID`` is avoided, since it asks
the connected backend for a prediction when the task has none.

The pages are cut by task number (key-set paging), so tasks that are added or deleted in between
neither shift the pages nor repeat a task. Of a list of several pages the later ones are asked for a
few at a time, each in a span of numbers of its own; Label Studio counts what is above a page for
each one, so that a span also saves it work.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import numpy as np

from backend.batches import batched_lists
from backend.errors import LabelStudioError
from backend.labels import Annotation, parse_annotation
from backend.labelstudio_http import Transport
from backend.labelstudio_types import Task, read_all
from backend.log_context import carried

Filter = dict[str, Any]

TASK_FIELDS = "id,data,is_labeled,total_annotations,updated_at"
# The list's ``include`` names fields of the task and of its annotations alike.
_ANNOTATION_FIELDS = (
    f"{TASK_FIELDS},annotations,result,was_cancelled,completed_by,updated_by,created_at,lead_time"
)
# Filters travel in the URL, which some servers cut at 4 KB.
_IDS_IN_A_REQUEST = 200


AT_A_TIME = 4
"""Pages that are asked for at a time."""
Found = TypeVar("Found")


@dataclass(frozen=True)
class Span:
    """The tasks above one number, up to another one where that is given."""

    after_id: int
    last_id: int | None = None


class TaskCalls:
    """Calls about tasks; a part of :class:`backend.labelstudio.LabelStudio`."""

    _http: Transport

    def tasks(self, project_id: int, *, after_id: int = 0, page_size: int = 1000) -> Iterator[Task]:
        """Tasks with a number above ``after_id``, by number; URIs in their data unresolved."""
        params = {"include": TASK_FIELDS, "page_size": page_size}
        for page in self.pages(project_id, params, after_id=after_id):
            yield from read_all(Task, page)

    def task_ids(self, project_id: int) -> set[int]:
        """Numbers of all tasks there are now."""
        pages = self.pages(project_id, {"include": "id"})
        return {int(row["id"]) for page in pages for row in page}

    def task_annotations(
        self, project_id: int, task_ids: Sequence[int]
    ) -> dict[int, tuple[Task, list[Annotation]]]:
        """Tasks with their annotations, skips included, drafts not; deleted tasks are absent."""
        found: dict[int, tuple[Task, list[Annotation]]] = {}
        for ids in batched_lists(sorted(set(task_ids)), _IDS_IN_A_REQUEST):
            chosen = field_filter("id", "in_list", ids, kind="List")
            for task, given in self._annotated(project_id, [chosen]):
                found[task.id] = task, given
        return found

    def annotated(
        self, project_id: int, *, page_size: int = 1000
    ) -> Iterator[tuple[int, list[Annotation]]]:
        """Every task with an annotation or a skip: its number, and all its annotations."""
        some = [
            field_filter("total_annotations", "greater", 0),
            field_filter("cancelled_annotations", "greater", 0),
        ]
        for task, given in self._annotated(project_id, some, page_size):
            yield task.id, given

    def changed_since(
        self, project_id: int, moment: datetime | str
    ) -> Iterator[tuple[Task, list[Annotation]]]:
        """Tasks made, edited or annotated at ``moment`` or later, with all their annotations.

        ``moment`` is a ``Task.updated_at``, or a time with its zone. Making, updating, skipping
        and deleting annotations all change ``updated_at``; predictions and drafts do not. Deleted
        tasks cannot be seen here. Label Studio takes the time a moment before it commits, so ask
        from some seconds before the latest time seen; a task that comes twice does no harm.
        """
        since = field_filter("updated_at", "greater_or_equal", dm_time(moment), kind="Datetime")
        yield from self._annotated(project_id, [since])

    def pages(
        self,
        project_id: int,
        params: Mapping[str, object],
        either: Sequence[Filter] = (),
        after_id: int = 0,
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of tasks, by number, that pass any of the filters (all tasks without filters).

        Tasks that are added while the list is read may be missing.

        ``params`` go into the URL: ``include`` names the fields, ``page_size`` is 1,000 if absent.
        """
        rows, total = self._page(project_id, params, either, Span(after_id))
        if rows:
            yield rows
        # Label Studio may give shorter pages than asked for, so the length says nothing.
        left = total - len(rows)
        if left <= 0:
            return
        here = rows[-1]["id"]
        spans = self._spans(project_id, params, either, here, -(-left // len(rows)))
        walk = partial(self._walk, project_id, params, either)
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            for found in mapped_in_order(threads, carried(walk), spans):
                yield from found

    def _spans(
        self,
        project_id: int,
        params: Mapping[str, object],
        either: Sequence[Filter],
        after_id: int,
        count: int,
    ) -> list[Span]:
        """``count`` spans above a number that hold all tasks there are now, about as many each."""
        if count == 1:
            return [Span(after_id)]
        last = {**params, "include": "id", "page_size": 1}
        rows, _ = self._page(project_id, last, either, Span(after_id), backwards=True)
        if not rows:
            return []
        ends = np.linspace(after_id, rows[0]["id"], count + 1).astype(np.int64).tolist()
        return [Span(low, high) for low, high in itertools.pairwise(ends) if low < high]

    def _walk(
        self,
        project_id: int,
        params: Mapping[str, object],
        either: Sequence[Filter],
        span: Span,
    ) -> list[list[dict[str, Any]]]:
        """All pages of a span, the next one asked for by the last number of the one before."""
        found = []
        while True:
            rows, total = self._page(project_id, params, either, span)
            if rows:
                found.append(rows)
                span = Span(rows[-1]["id"], span.last_id)
            if total <= len(rows):
                return found

    def _page(
        self,
        project_id: int,
        params: Mapping[str, object],
        either: Sequence[Filter],
        span: Span,
        *,
        backwards: bool = False,
    ) -> tuple[list[dict[str, Any]], int]:
        """The first page of a span, or the last, and how many tasks lie in the span."""
        query = {**_query(either, span), "ordering": ["-tasks:id" if backwards else "tasks:id"]}
        fixed = {
            "project": project_id,
            "resolve_uri": "false",
            "query": json.dumps(query, separators=(",", ":")),
        }
        answer = self._http.get("/api/tasks", {"page_size": 1000, **params, **fixed})
        if not isinstance(answer, dict) or not isinstance(answer.get("tasks"), list):
            raise LabelStudioError("Label Studio's list of tasks is in a form that is not known.")
        rows = answer["tasks"]
        return rows, int(answer.get("total") or 0) if rows else 0

    def _annotated(
        self, project_id: int, either: Sequence[Filter], page_size: int = 1000
    ) -> Iterator[tuple[Task, list[Annotation]]]:
        params = {"include": _ANNOTATION_FIELDS, "fields": "all", "page_size": page_size}
        for page in self.pages(project_id, params, either):
            for task, row in zip(read_all(Task, page), page, strict=True):
                given = [parse_annotation(a, task.id) for a in row.get("annotations") or ()]
                yield task, sorted(given, key=lambda a: a.id)


def _query(either: Sequence[Filter], span: Span) -> dict[str, Any]:
    """Query for the tasks of a span that pass any of the filters."""
    items = [dict(one) for one in either]
    # Not on the first page: it doubles the time that the page takes.
    if span.after_id > 0:
        inside = field_filter("id", "greater", span.after_id)
        if span.last_id is not None:
            inside = field_filter("id", "in", {"min": span.after_id + 1, "max": span.last_id})
        items = [{**one, "child_filter": inside} for one in items] or [inside]
    return {"filters": {"conjunction": "or", "items": items}}


def mapped_in_order(
    threads: ThreadPoolExecutor, work: Callable[[Span], Found], spans: Sequence[Span]
) -> Iterator[Found]:
    """What comes of each span, in their order; no more than a few wait to be taken."""
    waiting, pending = deque(spans), deque[Future[Found]]()
    try:
        while waiting or pending:
            while waiting and len(pending) < 2 * AT_A_TIME:
                pending.append(threads.submit(work, waiting.popleft()))
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def field_filter(field: str, operator: str, value: object, kind: str = "Number") -> Filter:
    """One filter of the Data Manager on a field of the tasks."""
    return {
        "filter": f"filter:tasks:{field}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def dm_time(moment: datetime | str) -> str:
    """A time in the one form that the Data Manager's filters take: UTC with microseconds."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
