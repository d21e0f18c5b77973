"""What the page of one project shows of each control, with the interval of every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.class_balance import ClassBalance, class_balance
from backend.label_config import Control
from backend.measures_text import NAMES, any_told, number_text
from backend.project_figures import (
    CurvePoint,
    Figure,
    RandomPoint,
    calibration_figure,
    learning_figure,
)
from backend.settings import Settings
from backend.sync import controls_of
from backend.tables import Project, Version, version_name
from model.metrics import wilson_interval
from model.plurals import counted

MOST_CELLS = 25
"""Classes above which a table of all pairs cannot be read: the worst pairs are listed instead."""
WORST = 20


@dataclass(frozen=True)
class Cell:
    """How often ``truth`` was called ``said``; of several choices one of the two is empty, where
    the class was missed or should not have been ticked."""

    truth: str
    said: str
    count: int

    @property
    def wrong(self) -> bool:
        """Whether what was said is not what is true."""
        return self.truth != self.said


@dataclass(frozen=True)
class Confusion:
    """What is taken for what: ``rows`` of all pairs where they can be read, and the ``worst``."""

    n: int
    classes: list[str]
    rows: list[list[Cell]]
    worst: list[Cell]


@dataclass(frozen=True)
class ControlView:
    """One control. A figure is None where it cannot be drawn yet, and a sentence says why.

    ``measures`` are pairs of a name and a number in words; ``measures_why`` says why none of them
    can be told, and is empty where one can.
    """

    name: str
    multiple: bool
    points: list[CurvePoint]
    chance: list[RandomPoint]
    curve: Figure | None
    curve_why: str
    steps: list[Mapping[str, Any]]
    calibration: Figure | None
    calibration_why: str
    balance: ClassBalance
    measures: list[tuple[str, str]]
    measures_why: str
    confusion: Confusion | None


def control_views(session: Session, project: Project, settings: Settings) -> list[ControlView]:
    """Every control of a project, as the version that serves was measured on the audit labels."""
    rows = _versions(session, project.id)
    champion = session.get(Version, (project.id, project.champion))
    measures = (champion.metrics.get("measures") or {}) if champion else {}
    found = []
    for control in controls_of(project):
        held = (measures.get(control.name) or {}).get("held_out") or {}
        # What was measured as one of several choices says nothing once it is one of one.
        held = held if held.get("multiple") == control.multiple else {}
        balance = class_balance(session, project, control, settings.audit_share)
        found.append(_view(project, control, rows, held, balance, settings))
    return found


def _view(
    project: Project,
    control: Control,
    versions: Sequence[tuple[int, Mapping[str, Any]]],
    held: Mapping[str, Any],
    balance: ClassBalance,
    settings: Settings,
) -> ControlView:
    points = curve_points(versions, control.name)
    steps = list(held.get("reliability") or ())
    chance = random_points((project.payoff.get("controls") or {}).get(control.name) or {})
    curve = learning_figure(points, chance, settings.target_accuracy) if points else None
    return ControlView(
        control.name,
        control.multiple,
        points,
        chance,
        curve,
        "" if points else _no_curve(balance.audited),
        steps,
        calibration_figure(steps) if steps else None,
        "" if steps else _no_calibration(held),
        balance,
        [(title, number_text(name, held[name])) for name, title in NAMES.items() if name in held],
        _no_measures(project, held),
        confusion_of(held),
    )


def _versions(session: Session, project_id: int) -> list[tuple[int, Mapping[str, Any]]]:
    """Number and audit points of the versions on the network of the newest one, oldest first."""
    rows = session.execute(
        select(Version.number, Version.backbone, Version.metrics["audit"])
        .where(Version.project_id == project_id)
        .order_by(Version.number)
    ).all()
    return [(number, audit or {}) for number, backbone, audit in rows if backbone == rows[-1][1]]


def curve_points(
    versions: Sequence[tuple[int, Mapping[str, Any]]], control: str
) -> list[CurvePoint]:
    """The learning curve of a control: each version that could be measured, by its labels."""
    found = []
    for number, audit in versions:
        point = audit.get(control)
        if point and point["audited"]:
            right, n = point["right"], point["audited"]
            low, high = wilson_interval(right, n)
            name = version_name(number)
            found.append(CurvePoint(name, point["labels"], right / n, low, high, n))
    return sorted(found, key=lambda point: point.labels)


def random_points(kept: Mapping[str, Any]) -> list[RandomPoint]:
    """The comparisons of the queue's picks with chance that told something, by their labels.

    ``kept`` is what :func:`backend.payoff.record` keeps of a control.
    """
    told = [*(kept.get("shown") or {}).values(), *(kept.get("history") or ())]
    found = {
        RandomPoint(
            each["learned"] + each["compared"],
            each["queue"],
            each["random"],
            each["low"],
            each["high"],
        )
        for each in told
        if each["difference"] is not None
    }
    return sorted(found, key=lambda point: point.labels)


def confusion_of(held: Mapping[str, Any]) -> Confusion | None:
    """The confusion of a version on the audit labels; None where nothing was counted."""
    counts, n = held.get("confusion"), held.get("n") or 0
    if not counts or not n:
        return None
    classes = list(held["classes"])
    if held["multiple"]:
        cells = [
            cell
            for name, ((_, false_yes), (false_no, _)) in zip(classes, counts, strict=True)
            for cell in (Cell(name, "", false_no), Cell("", name, false_yes))
        ]
        return Confusion(n, classes, [], _worst(cells))
    rows = [
        [Cell(truth, said, count) for said, count in zip(classes, row, strict=True)]
        for truth, row in zip(classes, counts, strict=True)
    ]
    worst = _worst([cell for row in rows for cell in row])
    return Confusion(n, classes, rows if len(classes) <= MOST_CELLS else [], worst)


def _worst(cells: Sequence[Cell]) -> list[Cell]:
    wrong = [cell for cell in cells if cell.wrong and cell.count]
    return sorted(wrong, key=lambda cell: -cell.count)[:WORST]


def _no_curve(audited: int) -> str:
    return (
        "Cannot tell yet: no version has been measured on at least 10 independent audit labels; "
        f"there {'is' if audited == 1 else 'are'} {counted(audited, 'audit label')}."
    )


def _no_measures(project: Project, held: Mapping[str, Any]) -> str:
    """By the reason of the training itself: audit labels may have come since."""
    if not held or any_told(held):
        return ""
    reason = next(held[name]["reason"] for name in NAMES if name in held)
    return (
        "Accuracy, F1 and the other measures of "
        f"{version_name(project.champion)} on the audit labels cannot be told yet: "
        f"{reason.removeprefix('cannot tell yet: ')}."
    )


def _no_calibration(held: Mapping[str, Any]) -> str:
    n = held.get("n") or 0
    if n >= 100:  # measured before steps were kept
        return "The version that serves was measured without it; the next training will tell."
    return f"Cannot tell yet: {n:,} of 100 audit labels."
