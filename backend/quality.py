"""How far annotators agree, how long a label takes them, and whether new images differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.sync import controls_of
from backend.tables import Project, QualityCheck, Vote
from model.agreement import Agreement, Median, krippendorff_alpha, median_interval

LONGEST_SECONDS = 3600.0
"""A task that stayed open for longer was not being labelled."""
FEW_SECONDS = 90.0
"""Below this a time is said in seconds."""

Json = dict[str, Any]


def quality_json(session: Session, project_id: int) -> Json:
    """``agreement``: control → how far people agree. ``seconds``: per label, of everybody and of
    each annotator. ``drift``: data key → how new images differ from old ones. Each has a
    ``sentence``."""
    project = session.get_one(Project, project_id)
    votes = session.execute(
        select(Vote.task_id, Vote.annotator, Vote.choices, Vote.seconds)
        .where(Vote.project_id == project_id)
        .order_by(Vote.task_id, Vote.annotation_id)
    ).all()
    check = session.get(QualityCheck, project_id)
    return {
        "agreement": [_agreement(control.name, votes) for control in controls_of(project)],
        "seconds": _seconds(votes),
        "drift": [_drift(key, each) for key, each in (check.drift if check else {}).items()],
    }


def _agreement(control: str, votes: Any) -> Json:
    said: dict[int, list[tuple[str, ...]]] = {}
    for row in votes:
        if control in row.choices:
            said.setdefault(row.task_id, []).append(tuple(sorted(row.choices[control])))
    found = krippendorff_alpha(list(said.values()))
    return {"control": control, **asdict(found), "sentence": _agreement_sentence(control, found)}


def _agreement_sentence(control: str, found: Agreement) -> str:
    if not found.images:
        return f"{control}: nobody has labelled an image that somebody else labelled too."
    several = f"{found.images} image{'s' if found.images > 1 else ''} that several people labelled"
    if found.alpha is None:
        return f"{control}: cannot tell yet how far people agree, from {several}."
    return (
        f"{control}: people agree with alpha {found.alpha:.2f} "
        f"({found.low:.2f} to {found.high:.2f}), on {several}."
    )


def _seconds(votes: Any) -> Json:
    timed: dict[int | None, list[float]] = {}
    for row in votes:
        if row.seconds is not None and row.seconds <= LONGEST_SECONDS:
            timed.setdefault(row.annotator, []).append(row.seconds)
    everybody = median_interval([each for some in timed.values() for each in some])
    return {
        **asdict(everybody),
        "annotators": [
            {"annotator": who, **asdict(median_interval(some))}
            for who, some in sorted(timed.items(), key=lambda item: item[0] or 0)
        ],
        "sentence": _seconds_sentence(everybody),
    }


def _seconds_sentence(found: Median) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "Cannot tell yet how long a label takes."
    unit, length = ("minute", 60) if found.value >= FEW_SECONDS else ("second", 1)
    middle, low, high = (_two_digits(t / length) for t in (found.value, found.low, found.high))
    units = unit if middle == "1" else unit + "s"
    return (
        f"Half of the labels take {middle} {units} or less ({low} to {high}), of "
        f"{found.n} that were timed."
    )


def _two_digits(number: float) -> str:
    """At least two digits, never as a power of ten."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _drift(key: str, found: Json) -> Json:
    return {"data_key": key, **found, "sentence": _drift_sentence(key, found)}


def _drift_sentence(key: str, found: Json) -> str:
    if not found["new"]:
        return f"{key}: no image has come since the first version was trained."
    if found["differs"] is None:
        return f"{key}: cannot tell yet whether new images differ from old ones."
    of = f"the newest {found['new']} against {found['old']} older ones, p = {found['p_value']:.3f}"
    if found["differs"]:
        return f"{key}: new images differ from old ones ({of}). See that their labels still fit."
    return f"{key}: no difference is seen between new images and old ones ({of})."
