"""What Label Studio says, as typed records; fields that Tiebreak does not use are left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from backend.errors import LabelStudioError

Record = TypeVar("Record")


@dataclass(frozen=True)
class Task:
    """One task; ``data`` holds URIs as they were imported, not resolved.

    ``updated_at`` (ISO 8601, UTC) changes with every annotation that is made, changed, skipped or
    deleted on the task, and not with predictions or drafts.
    """

    id: int
    data: dict[str, Any]
    is_labeled: bool = False
    total_annotations: int = 0
    updated_at: str = ""


@dataclass(frozen=True)
class Project:
    """One project with its counters: tasks, finished annotations, skips.

    ``maximum_annotations`` people are to label each of ``overlap_cohort_percentage`` percent of the
    tasks, and one person each of the others.
    """

    id: int
    title: str
    label_config: str = ""
    model_version: str | None = ""
    sampling: str | None = ""
    task_number: int | None = 0
    total_annotations_number: int | None = 0
    skipped_annotations_number: int | None = 0
    maximum_annotations: int | None = 1
    overlap_cohort_percentage: int | None = 100
    show_overlap_first: bool | None = False
    annotator_evaluation_enabled: bool | None = False


@dataclass(frozen=True)
class Backend:
    """One row of a project's Settings → Model; ``readable_state`` is e.g. Connected."""

    id: int
    url: str
    title: str = ""
    readable_state: str = ""
    error_message: str | None = None
    auth_method: str | None = "NONE"
    model_version: str | None = ""


@dataclass(frozen=True)
class Webhook:
    """One webhook; ``project`` is None when it is the whole organisation's."""

    id: int
    url: str
    project: int | None = None
    headers: dict[str, str] | None = field(default_factory=dict, repr=False)
    send_for_all_actions: bool = True
    send_payload: bool = True
    is_active: bool = True


@dataclass(frozen=True)
class View:
    """One tab of the Data Manager; ``data`` holds its title, ordering and filters."""

    id: int
    data: dict[str, Any]

    @property
    def title(self) -> str:
        """Title of the tab."""
        return str(self.data.get("title", ""))


def read(kind: type[Record], value: object) -> Record:
    """``value`` from JSON as a record; :class:`LabelStudioError` when it is not one."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise _unknown_form(kind, error) from None


def read_all(kind: type[Record], values: object) -> list[Record]:
    """List of records from a JSON list."""
    try:
        return TypeAdapter(list[kind]).validate_python(values)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _unknown_form(kind, error) from None


def read_count(value: object, *names: str) -> int:
    """First of the named numbers in a JSON object; 0 when there is none."""
    if not isinstance(value, dict):
        raise LabelStudioError("Label Studio answered in a form that is not known.")
    found: Iterable[object] = (value.get(name) for name in names)
    return next((n for n in found if isinstance(n, int)), 0)


def _unknown_form(kind: type[Any], error: ValidationError) -> LabelStudioError:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return LabelStudioError(
        f"Label Studio answered with a {kind.__name__.lower()} in a form that is not known "
        f"({where}: {first['msg']}).",
        mend="Tiebreak is tested with Label Studio 1.23.",
    )
