"""How often people change a ticked choice, and how often they differ from one that they do not see.

Counted are first answers, of everybody and of each annotator. Only answers to images of the queue
are compared, all of the time in which one blind share was in force: while there was none, every
image was ticked by another version than those that blind answers came after. Audit images are not
ticked either, but they are drawn from all images and not from the queue, so they stand beside it.
Images that a promise left to people as a check are those that the version is sure of: left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from backend.first_answers import CHANGED, NOTHING, REPLACED
from backend.sync import controls_of
from backend.tables import FirstAnswer, Project
from backend.withholding import AUDIT, BLIND, CHECK, TICKED
from model.automation_bias import Swayed, differing, swayed

Json = dict[str, Any]

Counts = dict[str, tuple[int, int]]
"""State → how many answers differ, and how many there are."""


def ticked_choices(session: Session, project: Project, blind_share: float) -> Json:
    """``share`` that the compared answers were given under, ``controls``, and how many answers are
    ``left_out`` and why. ``blind_share`` is that of the settings."""
    compared = _newest_share(session, project.id)
    counted = _counted(session, project.id, compared)
    names = [control.name for control in controls_of(project)]
    why = _why_nothing(blind_share) if compared is None else ""
    return {
        "share": compared,
        "controls": [_control(name, counted.get(name, {}), why) for name in names],
        "left_out": _left_out(session, project.id, compared),
        "sentence": why,
    }


def _newest_share(session: Session, project_id: int) -> float | None:
    """The blind share that the newest answer was given under, of those above 0."""
    query = select(FirstAnswer.blind_share).where(
        FirstAnswer.project_id == project_id,
        FirstAnswer.blind_share > 0,
        FirstAnswer.state.in_((TICKED, BLIND)),
    )
    return session.scalar(query.order_by(FirstAnswer.answered_at.desc()).limit(1))


def _counted(
    session: Session, project_id: int, share: float | None
) -> dict[str, dict[int, Counts]]:
    """Control → annotator → counts; the audit images are those of all time."""
    queue = FirstAnswer.state.in_((TICKED, BLIND)) & (FirstAnswer.blind_share == share)
    query = (
        select(
            FirstAnswer.control,
            FirstAnswer.annotator,
            FirstAnswer.state,
            func.count(case((FirstAnswer.differs.is_(True), 1))),
            func.count(),
        )
        .where(FirstAnswer.project_id == project_id, queue | (FirstAnswer.state == AUDIT))
        .group_by(FirstAnswer.control, FirstAnswer.annotator, FirstAnswer.state)
        .order_by(FirstAnswer.annotator)
    )
    found: dict[str, dict[int, Counts]] = {}
    for control, annotator, state, differ, n in session.execute(query):
        found.setdefault(control, {}).setdefault(annotator, {})[state] = (differ, n)
    return found


def _left_out(session: Session, project_id: int, share: float | None) -> Json:
    """How many answers of each kind are not compared."""
    rows = session.execute(
        select(FirstAnswer.state, FirstAnswer.blind_share, func.count())
        .where(FirstAnswer.project_id == project_id)
        .group_by(FirstAnswer.state, FirstAnswer.blind_share)
    )
    found = {NOTHING: 0, REPLACED: 0, CHANGED: 0, CHECK: 0, "other_share": 0}
    for state, theirs, n in rows:
        if state in found:
            found[state] += n
        elif state in (TICKED, BLIND) and theirs != share:
            found["other_share"] += n
    return found


def _control(name: str, by_annotator: Mapping[int, Counts], why: str) -> Json:
    everybody = _everybody(by_annotator.values())
    return {
        "control": name,
        **_compared(everybody, why),
        "annotators": [
            {"annotator": who, **_compared(counts, why)} for who, counts in by_annotator.items()
        ],
    }


def _everybody(found: Iterable[Counts]) -> Counts:
    total: Counts = {}
    for counts in found:
        for state, (differ, n) in counts.items():
            before = total.get(state, (0, 0))
            total[state] = (before[0] + differ, before[1] + n)
    return total


def _compared(counts: Counts, why: str) -> Json:
    changed, ticked = counts.get(TICKED, (0, 0))
    differed, blind = counts.get(BLIND, (0, 0))
    found = swayed(changed, ticked, differed, blind)
    return {
        "ticked": vars(found.ticked),
        "blind": vars(found.blind),
        "audit": vars(differing(*counts.get(AUDIT, (0, 0)))),
        "difference": {"value": found.difference, "low": found.low, "high": found.high},
        "verdict": found.verdict,
        "sentence": why or _sentence(found),
    }


def _why_nothing(blind_share: float) -> str:
    if blind_share == 0:
        return (
            "Cannot tell: TIEBREAK_BLIND_SHARE is 0, so no image of the queue is without its "
            "ticked choice."
        )
    return "Cannot tell yet: nobody has answered an image with a ticked choice, or a blind one."


def _sentence(found: Swayed) -> str:
    ticked, blind = found.ticked, found.blind
    if found.difference is None or found.low is None or found.high is None:
        return (
            f"Cannot tell yet: {ticked.n:,} first answers to ticked images and {blind.n:,} to "
            "blind ones."
        )
    points = f"{abs(100 * found.difference):.1f} points"
    ends = sorted((100 * abs(found.low), 100 * abs(found.high)))
    span = f"{ends[0]:.1f} to {ends[1]:.1f}"
    if found.verdict == "follows":
        return (
            f"People follow the tick: they differ from the model {points} ({span}) less often when "
            "they see its choice."
        )
    if found.verdict == "opposes":
        return (
            f"People turn away from the tick: they differ from the model {points} ({span}) more "
            "often when they see its choice."
        )
    return (
        f"No difference is seen: blind answers differ {points} "
        f"{'more' if found.difference >= 0 else 'less'} often "
        f"({100 * found.low:+.1f} to {100 * found.high:+.1f} points more often)."
    )
