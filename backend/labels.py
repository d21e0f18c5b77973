"""Annotations -> labels: what people said about a task, one label per control.

A skip is no label, and neither is what Tiebreak accepted by itself (:mod:`backend.auto_marks`),
until a person changes or confirms it. An annotator counts once on a task, with the annotation
updated last. The order in which annotations arrive does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeGuard

from backend.auto_marks import bears_mark, run_of
from backend.label_config import Control

# Keys of a value that tie a result to a part of the image, or to one page of several.
_REGION_KEYS = {"x", "y", "width", "height", "points", "vertices", "rle", "imageDataURL"}
_PART_KEYS = _REGION_KEYS | {"start", "end", "sequence", "item_index"}

EARLIEST = datetime.min.replace(tzinfo=UTC)
"""Stands for a date that is missing or malformed."""


@dataclass(frozen=True)
class Annotation:
    """One submitted annotation of Label Studio; ``result`` holds its result items unchanged."""

    id: int
    task_id: int
    result: list[dict[str, Any]]
    was_cancelled: bool
    completed_by: int | None
    updated_at: str
    created_at: str = ""
    lead_time: float | None = None
    """Seconds that the annotator had the task open."""

    @property
    def automatic(self) -> bool:
        """Tiebreak accepted it by itself, and no person has changed or confirmed it since.

        An annotation that was saved in Label Studio's editor has the time that it was open for."""
        marked = not self.was_cancelled and run_of(self.task_id, self.result) is not None
        return marked and not self.lead_time

    @property
    def counts(self) -> bool:
        """A person's answer, and no skip."""
        return not self.was_cancelled and not self.automatic


@dataclass(frozen=True)
class Label:
    """What ``votes`` annotators say about one control of one task.

    ``agreed``: ``choices`` is the label (several or none only for a multiple control).
    ``tied``: ``choices`` tie, so there is no label.
    ``outside``: ``choices`` cannot be learned; ``detail`` says why.
    """

    control: str
    status: Literal["agreed", "tied", "outside"]
    choices: tuple[str, ...]
    votes: int
    detail: str


def parse_annotation(payload: Mapping[str, Any], task_id: int | None = None) -> Annotation:
    """Annotation as Label Studio's API, export or webhook gives it.

    The payload's own task counts where ``task_id`` is not given; 0 stands for an unknown id.
    Fields that are missing or malformed become empty, result items that are no objects are left
    out; nothing raises. Whoever changes or confirms an answer that Tiebreak accepted has given it,
    at that moment.
    """
    result = payload.get("result")
    found = Annotation(
        id=_identifier(payload.get("id")) or 0,
        task_id=task_id or _identifier(payload.get("task")) or 0,
        result=[i for i in result if isinstance(i, dict)] if isinstance(result, list) else [],
        was_cancelled=bool(payload.get("was_cancelled")),
        completed_by=_identifier(payload.get("completed_by")),
        updated_at=str(payload.get("updated_at") or payload.get("created_at") or ""),
        created_at=str(payload.get("created_at") or ""),
        lead_time=_seconds(payload.get("lead_time")),
    )
    if found.automatic or not bears_mark(found.result):
        return found
    author = _identifier(payload.get("updated_by")) or found.completed_by
    return replace(found, completed_by=author, created_at=found.updated_at)


def labelled_at(annotations: Sequence[Annotation]) -> float | None:
    """When a person submitted the first annotation that is no skip, in seconds since the epoch.

    None where there is none, or none with a date."""
    dated = [moment_of(a.created_at) for a in annotations if a.counts]
    known = [moment for moment in dated if moment > EARLIEST]
    return min(known).timestamp() if known else None


def task_labels(annotations: Sequence[Annotation], controls: Sequence[Control]) -> dict[str, Label]:
    """Labels of one task by control name, majority of its annotators; only controls with a vote.

    Single: the choice with the most votes. Multiple: every class that more than half of the
    annotators ticked; an annotation with no result of that name is the empty set, unless the
    control is conditional. A tie for the first place, or a class ticked by exactly half, is
    ``tied``.
    """
    counted = _latest(annotations)
    labels = {}
    for control in controls:
        votes = [vote for a in counted if (vote := _vote(a, control)) is not None]
        if votes:
            decide = _multiple if control.multiple else _single
            labels[control.name] = decide(votes, control)
    return labels


def counted_votes(
    annotations: Sequence[Annotation], controls: Sequence[Control]
) -> list[tuple[Annotation, dict[str, tuple[str, ...]]]]:
    """What each annotator says of one task: the annotation that counts, and by control name what
    it ticks; a control that it says nothing about is left out."""
    return [(annotation, votes_of(annotation, controls)) for annotation in _latest(annotations)]


def votes_of(annotation: Annotation, controls: Sequence[Control]) -> dict[str, tuple[str, ...]]:
    """What an annotation ticks, by control name; controls that it says nothing about are left
    out."""
    return {c.name: vote for c in controls if (vote := _vote(annotation, c)) is not None}


def _identifier(value: object) -> int | None:
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: object) -> float | None:
    """A length of time as Label Studio gives it; None where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < float("inf") else None


def _latest(annotations: Sequence[Annotation]) -> list[Annotation]:
    latest: dict[tuple[str, int], Annotation] = {}
    for annotation in sorted(annotations, key=lambda a: (moment_of(a.updated_at), a.id)):
        if annotation.counts:
            by = annotation.completed_by
            latest[("annotation", annotation.id) if by is None else ("user", by)] = annotation
    return list(latest.values())


def moment_of(text: str) -> datetime:
    """A time as Label Studio writes it; :data:`EARLIEST` where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return EARLIEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _vote(annotation: Annotation, control: Control) -> tuple[str, ...] | None:
    """What the annotation ticks, in the config's order; None when it does not vote."""
    items = [item for item in annotation.result if item.get("from_name") == control.name]
    if control.multiple and not control.conditional and not items:
        return ()
    found: list[str] | None = None
    for choices in _choices(items, control, _regions(annotation.result)):
        found = choices
    if found is None or not (found or control.multiple):
        return None
    return _in_order(found, control)


def _choices(
    items: Sequence[Mapping[str, Any]], control: Control, regions: set[str]
) -> Iterator[list[str]]:
    for item in items:
        if (item.get("to_name"), item.get("type")) != (control.to_name, "choices"):
            continue
        value = item.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        if _strings(choices) and not _on_part(item) and str(item.get("id")) not in regions:
            yield choices


def _regions(result: Sequence[Mapping[str, Any]]) -> set[str]:
    """Ids of regions; a result that shares one says something about that region only."""
    return {i["id"] for i in result if _on_part(i) and isinstance(i.get("id"), str)}


def _strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _on_part(item: Mapping[str, Any]) -> bool:
    value = item.get("value")
    inside = isinstance(value, Mapping) and not _PART_KEYS.isdisjoint(value)
    return inside or item.get("item_index") is not None


def _single(votes: list[tuple[str, ...]], control: Control) -> Label:
    ranked = Counter(votes).most_common()
    first = sorted(choices for choices, count in ranked if count == ranked[0][1])
    if len(first) > 1:
        tied = _in_order((choice for choices in first for choice in choices), control)
        return Label(control.name, "tied", tied, len(votes), f"{_quoted(tied)} tie")
    if len(first[0]) > 1:
        detail = f"{_quoted(first[0])} on a control that takes one choice"
        return Label(control.name, "outside", first[0], len(votes), detail)
    return _decided(first[0], votes, control)


def _multiple(votes: list[tuple[str, ...]], control: Control) -> Label:
    counts = Counter(choice for vote in votes for choice in vote)
    most = tuple(c for c in _in_order(counts, control) if 2 * counts[c] > len(votes))
    tied = tuple(c for c in _in_order(counts, control) if 2 * counts[c] == len(votes))
    label = _decided(most, votes, control)
    if tied and label.status == "agreed":
        detail = f"{_quoted(tied)} ticked by half of {len(votes)}"
        return Label(control.name, "tied", tied, len(votes), detail)
    return label


def _decided(choices: tuple[str, ...], votes: list[tuple[str, ...]], control: Control) -> Label:
    strange = [choice for choice in choices if choice not in control.classes]
    if strange:
        detail = f"{_quoted(strange)} not among the choices of the labelling config"
        return Label(control.name, "outside", choices, len(votes), detail)
    return Label(control.name, "agreed", choices, len(votes), "")


def _in_order(choices: Iterable[str], control: Control) -> tuple[str, ...]:
    """Distinct choices in the config's order, those outside it last."""
    place = {name: position for position, name in enumerate(control.classes)}
    return tuple(sorted(set(choices), key=lambda c: (place.get(c, len(place)), c)))


def _quoted(choices: Sequence[str]) -> str:
    return ", ".join(f'"{choice}"' for choice in choices)
