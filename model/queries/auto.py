"""The strategy for whoever does not want to choose one: from the first label to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.queries.margin import margin
from model.queries.pool import Pool, checked_count
from model.queries.typiclust import typiclust
from model.queries.uherding import Herd, uherding

# Labels for each class, on average, below which what the heads say is not asked for.
FIRST = 2
# Images below which they are typical ones; spread ones then, until there are labels enough.
TYPICAL = 20
# Labels of a class between which coverage hands over to margins.
FEW, MANY = 60, 240
# With more picks than this share of the labels, margins alone would pick the same image many times.
BATCH_SHARE = 0.5


def auto(pool: Pool, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``count`` candidates: first typical and spread images, then unsure ones that stand for many,
    at last simply those that the heads are least sure of.

    With fewer than two labels for each class, in the control where that is least, heads are not
    asked: having seen so little they are as sure where they are wrong. The first 20 images are
    typical ones (:func:`model.queries.typiclust.typiclust`), the others, where there are more than
    ten classes, cover the pool (herding with the same uncertainty for every image). Then
    uncertainty herding (:func:`model.queries.uherding.uherding`) and the smallest margins
    (:func:`model.queries.margin.margin`) take turns. A share s of the
    picks goes to margins:

        s = clip((l - 60) / (240 - 60), 0, 1) · clip((m / 2 - count) / (m / 2), 0, 1)

    l is the number of labels that three quarters of the classes have reached, in the control where
    that is least, so that rare classes and unbalanced pools keep coverage; m is the number of
    labelled images. So nothing changes from one label to the next: the share grows evenly. Which
    numbers, and why: docs/strategies.md.
    """
    return auto_batches(pool, (count,), generator)


def auto_batches(
    pool: Pool, counts: Sequence[int], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Batches of so many picks by :func:`auto`, each as if those before it were labelled already.

    The pool is measured once for all of them. The radius of the kernel, the heads and the numbers
    of labels stay those of the beginning.
    """
    left = checked_count(pool, sum(counts))
    sizes = []
    for count in counts:
        sizes.append(min(checked_count(pool, count), left))
        left -= sizes[-1]
    if knows_little(pool):
        return _little_known(pool, sizes, generator)
    picked = np.zeros(0, dtype=np.int64)
    # The margins' own order, of which each batch takes what nothing else has.
    unsure = margin(pool, sum(sizes), generator)
    herd: Herd | None = None
    for size in sizes:
        sure = round(margin_share(pool, size, len(picked)) * size)
        part = picked[:0]
        if size > sure:
            herd = herd or Herd(pool, sum(sizes), generator)
            part = herd.pick(size - sure)
        rest = unsure[~np.isin(unsure, np.concatenate([picked, part]))][:sure]
        if herd is not None:
            herd.take(rest)
        picked = np.concatenate([picked, _in_turns(part, rest)])
    return picked


def _little_known(
    pool: Pool, sizes: Sequence[int], generator: np.random.Generator
) -> NDArray[np.int64]:
    picked = np.zeros(0, dtype=np.int64)
    for size in sizes:
        asked = replace(pool, answers=(), labelled=np.union1d(pool.labelled, picked))
        strategy = typiclust if len(asked.labelled) < TYPICAL else uherding
        picked = np.concatenate([picked, strategy(asked, size, generator)])
    return picked


def knows_little(pool: Pool) -> bool:
    """Whether a control has fewer than two labels for each class, or none has any answers yet;
    where labels were not counted, no."""
    if not pool.answers:
        return True
    known = [part.label_counts for part in pool.answers if part.label_counts is not None]
    return any(counts.sum() < FIRST * len(counts) for counts in known)


def margin_share(pool: Pool, count: int, more: int = 0) -> float:
    """The share of ``count`` picks that goes to margins, in [0, 1]; 0 where no labels are known.

    ``more`` images count as labelled beside those of the pool.
    """
    known = [part.label_counts for part in pool.answers if part.label_counts is not None]
    if not known or len(known) < len(pool.answers) or len(pool.labelled) == 0:
        return 0.0
    reached = min(float(np.quantile(counts, 0.25, method="lower")) for counts in known)
    grown = np.clip((reached - FEW) / (MANY - FEW), 0, 1)
    most = BATCH_SHARE * (len(pool.labelled) + more)
    return float(grown * np.clip((most - count) / most, 0, 1))


def _in_turns(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both, each in its order, evenly mixed."""
    places = [(np.arange(len(part)) + 0.5) / max(1, len(part)) for part in (one, other)]
    mixed = np.argsort(np.concatenate(places), kind="stable")
    return np.asarray(np.concatenate([one, other])[mixed])
