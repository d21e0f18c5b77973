"""Whether the queue goes on choosing, or is put in random order because choosing does harm.

A false switch costs the labels that choosing would have saved, so it takes evidence, and the
evidence is looked at again and again. Looks that count are those at which the audit set has grown
by half since the last one that counted; the k-th switches where its one-sided p-value is at most
ERROR_RATE / (k (k + 1)), levels that sum to ERROR_RATE over all looks there may ever be, however
the looks hang together (Bonferroni). So a queue that does no harm, such as a random one, is ever
switched off in at most 5 of 100 projects.

Strategies that harm with few labels often help with many. While the order is random nothing can be
learned about choosing, so it is tried again when the labels have doubled since the switch, and it
takes new evidence, about new picks, to switch once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.payoff import Comparison, Stage, Verdict

ERROR_RATE = 0.05
GROWTH = 1.5
PATIENCE = 2
"""How many times the labels at the switch there must be until choosing is tried again."""


@dataclass(frozen=True)
class Choice:
    """Whether to choose, why in one sentence, and how many looks counted."""

    choose: bool
    sentence: str
    looks: int


def should_choose(history: Sequence[Comparison], labels: int) -> Choice:
    """Whether to choose now, with ``labels`` learned from.

    ``history`` holds the comparisons of the last picks so far, in order of time. Those of the first
    picks, those that cannot tell, and those made while the order was random are passed over. After
    a return, compare only when the last picks were all chosen since; the labels before them, which
    both sides learn, may come from anywhere.
    """
    looks, audited = 0, 0
    switched: Comparison | None = None
    for look in history:
        at = look.learned + look.compared
        if look.stage is not Stage.LAST or look.verdict is Verdict.CANNOT_TELL:
            continue
        if look.audited < GROWTH * audited or (switched is not None and at < _again(switched)):
            continue
        looks, audited = looks + 1, look.audited
        harmful = look.hurt_probability <= ERROR_RATE / (looks * (looks + 1))
        switched = look if harmful else None
    if switched is None:
        return Choice(True, "The queue chooses: nothing shows that it does harm.", looks)
    if labels >= _again(switched):
        return Choice(True, f"The queue chooses again, after {labels:,} labels.", looks)
    return Choice(
        False,
        f"The order is random until there are {_again(switched):,} labels. {switched.sentence}",
        looks,
    )


def _again(switched: Comparison) -> int:
    return PATIENCE * (switched.learned + switched.compared)
