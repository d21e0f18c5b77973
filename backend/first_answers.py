"""What each annotator says first of a task, beside what the model said of it when they opened it.

Label Studio shows what the order that it goes by ticks at the moment at which the task is opened,
which is when the annotation was made minus the seconds that it took. Where something else was sent
within some seconds of that moment, it is not known what the annotator saw, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.auto_marks import bears_mark
from backend.batches import SQL_SLICE, batched_lists
from backend.label_config import Control
from backend.labels import Annotation, moment_of, votes_of
from backend.offers import Offers, PartReader, read_parts
from backend.predictions import Offer
from backend.tables import FirstAnswer, Serving, storable

Item = TypeVar("Item")

NOTHING = "nothing"
"""Nothing stood there to be ticked."""
REPLACED = "replaced"
"""What the model said was being replaced at that moment."""
CHANGED = "changed"
"""The answer had been changed before it was seen, so the first one is not known."""

SLACK_SECONDS = 5.0
"""How far Label Studio's times and Tiebreak's are trusted to agree."""
AT_ONCE_SECONDS = 2.0
"""An annotation that was updated later than this after it was made was changed."""


@dataclass(frozen=True)
class Stood:
    """What stood for a task: nothing where ``offers`` is empty; not known where ``unsure``."""

    offers: Offers
    version: int | None = None
    blind_share: float | None = None
    unsure: bool = False


class Standing:
    """What the predictions of a project said at any moment, as far as that was written down."""

    def __init__(self, session: Session, project_id: int) -> None:
        self._session, self._project_id = session, project_id
        query = select(Serving).where(Serving.project_id == project_id).order_by(Serving.id)
        self._servings = session.scalars(query).all()
        self._parts: dict[tuple[int, int], list[PartReader]] = {}

    def at(self, task_id: int, moment: float) -> Stood:
        """What was shown for a task that was opened at that moment."""
        first, last = moment - SLACK_SECONDS, moment + SLACK_SECONDS
        servings = _possible(self._servings, first, last, lambda s: (s.begun_at, s.served_at))
        found = [
            stood
            for serving in servings
            # Before Label Studio was told to go by an order, nobody saw what was missing of it.
            for stood in self._of_order(
                serving, task_id, max(first, serving.begun_at) if serving else first, last
            )
        ]
        if len({frozenset(stood.offers.items()) for stood in found}) > 1:
            return Stood({}, unsure=True)
        return found[-1]

    def _of_order(
        self, serving: Serving | None, task_id: int, first: float, last: float
    ) -> list[Stood]:
        """All that may have been shown of an order between two moments."""
        if serving is None:
            return [Stood({})]
        order = (serving.version, serving.number)
        if order not in self._parts:
            self._parts[order] = read_parts(self._session, self._project_id, *order)
        parts = [part for part in self._parts[order] if part.get(task_id) is not None]
        possible = _possible(parts, first, last, lambda p: (p.row.begun_at, p.row.sent_at))
        return [
            Stood({})
            if part is None
            else Stood(part.get(task_id) or {}, part.row.version, part.row.blind_share)
            for part in possible
        ]


def write_first_answers(
    session: Session,
    project_id: int,
    controls: Sequence[Control],
    annotations: Mapping[int, Sequence[Annotation]],
) -> None:
    """Write down the first answers to these tasks that are not known yet."""
    firsts = {
        (task_id, who): annotation
        for task_id, listed in annotations.items()
        for who, annotation in _firsts(listed).items()
    }
    known = _known(session, project_id, sorted({task_id for task_id, _ in firsts}))
    new = {key: annotation for key, annotation in firsts.items() if key not in known}
    if not new:
        return
    standing = Standing(session, project_id)
    for (task_id, who), annotation in new.items():
        given = votes_of(annotation, controls)
        opened = moment_of(annotation.created_at).timestamp() - (annotation.lead_time or 0.0)
        stood = standing.at(task_id, opened)
        for control in given or {"": ()}:
            answer = _answer(annotation, stood, stood.offers.get(control), given.get(control, ()))
            answer.project_id, answer.task_id = project_id, task_id
            answer.annotator, answer.control = who, storable(control)
            session.add(answer)


def _firsts(listed: Sequence[Annotation]) -> dict[int, Annotation]:
    """Annotator → what they said first; without skips and what Tiebreak said by itself, also where
    a person has changed it since: that person saw Tiebreak's answer."""
    firsts: dict[int, Annotation] = {}
    for annotation in sorted(listed, key=lambda a: (moment_of(a.created_at), a.id)):
        own = annotation.counts and not bears_mark(annotation.result)
        if own and annotation.completed_by is not None:
            firsts.setdefault(annotation.completed_by, annotation)
    return firsts


def _known(session: Session, project_id: int, task_ids: Sequence[int]) -> set[tuple[int, int]]:
    """The tasks and annotators whose first answer is known."""
    found = set[tuple[int, int]]()
    for some in batched_lists(task_ids, SQL_SLICE):
        query = select(FirstAnswer.task_id, FirstAnswer.annotator).where(
            FirstAnswer.project_id == project_id, FirstAnswer.task_id.in_(some)
        )
        found.update((task_id, who) for task_id, who in session.execute(query))
    return found


def _answer(
    annotation: Annotation, stood: Stood, offer: Offer | None, given: Sequence[str]
) -> FirstAnswer:
    made, updated = moment_of(annotation.created_at), moment_of(annotation.updated_at)
    state, said = NOTHING, None
    if (updated - made).total_seconds() > AT_ONCE_SECONDS:
        state = CHANGED
    elif stood.unsure:
        state = REPLACED
    elif offer is not None and offer.choices:
        state, said = offer.state, offer.choices
    return FirstAnswer(
        annotation_id=annotation.id,
        answered_at=made.timestamp(),
        state=state,
        version=stood.version,
        blind_share=stood.blind_share,
        said=None if said is None else [storable(choice) for choice in said],
        given=[storable(choice) for choice in given],
        differs=None if said is None else set(given) != set(said),
    )


def _possible(
    items: Sequence[Item],
    first: float,
    last: float,
    when: Callable[[Item], tuple[float, float | None]],
) -> list[Item | None]:
    """What may have been in force between two moments, of items that replace each other; to begin
    with what was before, None where that was nothing. ``when``: from when to when an item came."""
    before: Item | None = None
    found: list[Item] = []
    for item in items:
        begun, done = when(item)
        if begun > last:
            break
        if done is not None and done <= first:
            before, found = item, []
        else:
            found.append(item)
    return [before, *found]
