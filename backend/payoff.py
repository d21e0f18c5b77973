"""Does choosing pay on this project? Its labels, as :mod:`model.payoff` compares them.

An image that is not in the audit set counts as a pick of the queue when the order that was the
newest at the time of its first annotation was made by choice: not by chance, as the first order of
a project is and every one while choosing is switched off, and not before there was any order. Label
Studio's dates are compared with those of the orders here, so the two clocks should agree.

What was found is kept in the project's row, so that comparisons are made again only when the audit
set has grown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.dataset import LabelledImages, labelled_images
from backend.label_config import Control
from backend.orders import RANDOM
from backend.tables import Order, Project, Task
from model.choosing import Choice, should_choose
from model.payoff import (
    MINIMUM_AUDITED,
    Comparison,
    Labelled,
    Stage,
    Verdict,
    comparable,
    compare_picks,
)
from model.pool_prior import PoolPrior
from model.uncertainty import STRATEGIES

GROWN = 1.2
"""A comparison is made again when the audit labels are this many times as many."""
MOST_LEARNED = 2_000
"""Of the labels that both sides learn besides, at most so many by chance: a comparison fits 16
heads on them."""


@dataclass(frozen=True, eq=False)
class Look:
    """One comparison to be made.

    ``before`` is how many labels both sides learn, of which ``picked`` may hold fewer.
    """

    control: Control
    stage: Stage
    picked: Labelled
    audit: Labelled
    before: int

    @property
    def tells(self) -> bool:
        """Whether there are labels enough, so that heads have to be fitted."""
        audited = len(self.audit)
        return audited >= MINIMUM_AUDITED and len(self.picked) >= comparable(audited)

    def compare(self, seed: int, pool: PoolPrior | None = None) -> Comparison:
        """Make it, with heads that listen to ``pool`` as those that serve do; it takes seconds or
        minutes where it tells."""
        found = compare_picks(
            self.picked,
            self.audit,
            stage=self.stage,
            classes=self.control.classes,
            multiple=self.control.multiple,
            seed=seed,
            pool=pool,
        )
        return found if not self.tells else replace(found, learned=self.before)


@dataclass(frozen=True, eq=False)
class _Picks:
    """The labels that are not audited, in the order of labelling, and which of them are picks."""

    others: LabelledImages
    chosen: NDArray[np.bool_]
    audit: Labelled


def looks_due(
    session: Session,
    project: Project,
    controls: Sequence[Control],
    backbone: str,
    audit_share: float,
) -> list[Look]:
    """The comparisons to be made by now, those that cannot tell yet included."""
    found = []
    for control in controls:
        picks = _read(session, project, control, backbone, audit_share)
        kept = (project.payoff.get("controls") or {}).get(control.name) or {}
        for look in (_first(control, picks), _last(control, picks)):
            before = (kept.get("shown") or {}).get(look.stage)
            told = before["audited"] if before and before["difference"] is not None else 0
            if len(look.audit) >= GROWN * told:
                found.append(look)
    return found


def record(
    kept: Mapping[str, Any],
    found: Sequence[tuple[str, Comparison]],
    version: int,
    labels: Mapping[str, int],
) -> dict[str, Any]:
    """What the project's row keeps, with what was found by ``version``.

    ``labels``: control → how many labels the version learned from. The keys are ``checked``, the
    version; ``controls``: of each ``shown``, the last comparison of each stage that told something,
    or that said why not, and ``history``, those of the last picks that told something; and
    ``choose`` with its ``sentence``.
    """
    controls = {name: dict(each) for name, each in (kept.get("controls") or {}).items()}
    for name, comparison in found:
        one = controls.setdefault(name, {"shown": {}, "history": []})
        tells = comparison.verdict is not Verdict.CANNOT_TELL
        before = one["shown"].get(comparison.stage)
        written = asdict(comparison) | {"sentence": comparison.sentence}
        if tells or before is None or before["difference"] is None:
            one["shown"] = {**one["shown"], str(comparison.stage): written}
        if tells and comparison.stage is Stage.LAST:
            one["history"] = [*one["history"], written]
    controls = {name: one for name, one in controls.items() if name in labels}
    choice = decide(controls, labels)
    return {
        "checked": version,
        "controls": controls,
        "choose": choice.choose,
        "sentence": choice.sentence,
    }


def decide(controls: Mapping[str, Mapping[str, Any]], labels: Mapping[str, int]) -> Choice:
    """Whether the queue goes on choosing: until it does harm to every control that can be compared.

    So with several controls the risk of a false switch is no greater than with one.
    """
    choices = [
        should_choose([_comparison(each) for each in one["history"]], labels.get(name, 0))
        for name, one in controls.items()
        if one["history"]
    ]
    if not choices:
        return should_choose([], 0)
    return next((choice for choice in choices if choice.choose), choices[0])


def _comparison(kept: Mapping[str, Any]) -> Comparison:
    values = {name: value for name, value in kept.items() if name != "sentence"}
    return Comparison(
        **{**values, "stage": Stage(kept["stage"]), "verdict": Verdict(kept["verdict"])}
    )


def _read(
    session: Session, project: Project, control: Control, backbone: str, audit_share: float
) -> _Picks:
    data = labelled_images(session, project, control, backbone, audit_share)
    audit = data.rows(data.held_out)
    # Near-duplicates came together: one of each group stands for it.
    audit = audit.rows(np.unique(audit.leaders, return_index=True)[1])
    rows = session.execute(select(Task.id, Task.labelled_at).where(Task.project_id == project.id))
    dates = {task_id: date or 0.0 for task_id, date in rows}
    others = data.rows(~data.held_out)
    moments = np.array([dates.get(int(t), 0.0) for t in others.task_ids], dtype=np.float64)
    order = np.lexsort((others.task_ids, moments))
    return _Picks(
        others.rows(order),
        _by_choice(session, project.id, moments[order]),
        Labelled(audit.embeddings, audit.targets),
    )


def _by_choice(
    session: Session, project_id: int, moments: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(n,) whether the newest order at each moment was made by choice."""
    rows = session.execute(
        select(Order.created_at, Order.version, Order.strategy, Order.known)
        .where(Order.project_id == project_id)
        .order_by(Order.created_at, Order.version, Order.number)
    ).all()
    made = np.array([row.created_at for row in rows], dtype=np.float64)
    # The first entry stands for the time before any order.
    chosen = np.array([False, *(_chose(r.version, r.strategy, r.known) for r in rows)])
    return np.asarray(chosen[np.searchsorted(made, moments, side="right")] & (moments > 0))


def _chose(version: int, strategy: str, known: int) -> bool:
    """Before anything is learned measures of uncertainty know nothing, and pick by chance. What
    picked for the orders of before is not known, but that those of a version were by choice."""
    if version:
        return strategy != RANDOM
    return known > 0 and strategy not in (RANDOM, *STRATEGIES)


def _first(control: Control, picks: _Picks) -> Look:
    """The first picks, and nothing besides."""
    rows = np.flatnonzero(picks.chosen)[: comparable(len(picks.audit))]
    return Look(control, Stage.FIRST, _labelled(picks.others, rows), picks.audit, 0)


def _last(control: Control, picks: _Picks) -> Look:
    """The last picks, where no label by chance is among them, and the labels before."""
    n, m = len(picks.chosen), comparable(len(picks.audit))
    by_chance = np.flatnonzero(~picks.chosen)
    run = n - 1 - int(by_chance[-1]) if by_chance.size else n
    if run < m:
        rows, before = np.arange(n - run, n), 0
    else:
        before = n - m
        earlier = np.arange(before)
        if before > MOST_LEARNED:
            earlier = np.sort(np.random.default_rng(before).choice(before, MOST_LEARNED, False))
        rows = np.concatenate([earlier, np.arange(before, n)])
    return Look(control, Stage.LAST, _labelled(picks.others, rows), picks.audit, before)


def _labelled(images: LabelledImages, rows: NDArray[np.int64]) -> Labelled:
    return Labelled(images.embeddings[rows], images.targets[rows])
