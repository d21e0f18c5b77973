"""How right a model is: plain measures with their intervals."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from model.checks import (
    class_flags,
    class_positions,
    finite_matrix,
    inner_share,
    probability_matrix,
    row_flags,
    whole_numbers,
)
from model.errors import ArgumentError

SMALLEST_PROBABILITY = 1e-12
ALIKE = 2
"""Groups that are taken to be right or wrong as a whole before any is seen."""


def accuracy(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Share of rows whose largest of (n, k) scores is at their target, an (n,) class position.

    The first of several equal scores counts. ArgumentError when there is no row.
    """
    scores = finite_matrix("probabilities", probabilities)
    n, k = scores.shape
    wanted = class_positions("targets", targets, length=n, class_count=k)
    _at_least_one_row(n)
    return float((scores.argmax(axis=1) == wanted).mean())


def exact_match(probabilities: ArrayLike, targets: ArrayLike, thresholds: ArrayLike = 0.5) -> float:
    """Share of rows with every class right: (n, k) probability >= threshold against (n, k) flags.

    ``thresholds`` is one number, (k,) or (n, k). ArgumentError when there is no row.
    """
    scores = probability_matrix("probabilities", probabilities, rows_sum_to_one=False)
    n, k = scores.shape
    wanted = class_flags("targets", targets, length=n, class_count=k)
    _at_least_one_row(n)
    return float(((scores >= np.asarray(thresholds)) == wanted).all(axis=1).mean())


def log_loss(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean negative natural log of the probability given to what is true, in nats, >= 0.

    (n,) ``targets`` are class positions, and a row counts -ln p[target]. (n, k) flags are yes-or-no
    questions, and the mean runs over all n * k of them, each -ln p or -ln(1 - p). Probabilities
    are clipped to 1e-12 from 0. ArgumentError when there is no row.
    """
    losses = log_losses(probabilities, targets)
    _at_least_one_row(len(losses))
    return float(losses.mean())


def log_losses(probabilities: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """(n,) what each row adds to the mean of :func:`log_loss`; with flags, its mean over k."""
    flags = np.ndim(np.asarray(targets)) == 2
    p = probability_matrix("probabilities", probabilities, rows_sum_to_one=not flags)
    n, k = p.shape
    if flags:
        wanted = class_flags("targets", targets, length=n, class_count=k)
        of_truth = np.where(wanted, p, 1 - p)
    else:
        positions = class_positions("targets", targets, length=n, class_count=k)
        of_truth = p[np.arange(n), positions][:, None]
    losses = -np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).mean(axis=1)
    return np.asarray(losses, dtype=np.float64)


def wilson_interval(correct: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a proportion of which ``correct`` of ``n`` were seen, within [0, 1].

    Wilson, *Probable Inference, the Law of Succession, and Statistical Inference* (1927);
    Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion* (2001), eq. 4.
    Neither need be whole: labels that depend on each other may count as fewer. (0, 1) when ``n``
    is 0. ArgumentError when ``correct`` is not in 0..n or ``confidence`` not in
    (0, 1).
    """
    if n < 0 or not 0 <= correct <= n:
        raise ArgumentError(f"correct is {correct!r} of n {n!r}; 0 <= correct <= n is needed.")
    inner_share("confidence", confidence)
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + confidence / 2))
    p = correct / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are exact at 0 and n, where rounding would leave a hair between.
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == n else min(1.0, middle + half)
    return low, high


def effective_count(right: ArrayLike, groups: ArrayLike) -> float:
    """How many labels drawn one by one would tell as much as (n,) bool ``right``, drawn by groups.

    ``groups`` (n,) whole numbers: rows of one group came together, as near-duplicates do. n over
    the design effect 1 + r (sum(n_g^2) / n - 1), n_g being the sizes of the groups and r the
    correlation within them (Kish, *Survey Sampling*, 1965, section 8.2). To be put into
    :func:`wilson_interval` (Korn and Graubard, *Confidence Intervals for Proportions with Small
    Expected Number of Positive Counts Estimated from Survey Data*, 1998).

    r = 1 - d / (2 p (1 - p)), where d is the share of pairs of one group of which one is right and
    one wrong, and p the share of right rows after two more of each kind. As a few groups say little
    of it, two more that agree within themselves are counted: r is 1 where no group has two rows,
    and (g r + 2) / (g + 2) with g such groups, within [0, 1].

    Between 1 and n; 0 without rows. ArgumentError when the arrays do not fit.
    """
    flags = row_flags("right", right, length=np.size(right))
    n = flags.size
    names = whole_numbers("groups", groups, length=n)
    if n == 0:
        return 0.0
    _, where, sizes = np.unique(names, return_inverse=True, return_counts=True)
    hits = np.bincount(where, weights=flags, minlength=sizes.size)
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs == 0:
        return float(n)
    p = (hits.sum() + 2) / (n + 4)
    differ = float((2 * hits * (sizes - hits)).sum()) / pairs
    several = int((sizes > 1).sum())
    correlation = (several * (1 - differ / (2 * p * (1 - p))) + ALIKE) / (several + ALIKE)
    return float(n / (1 + np.clip(correlation, 0, 1) * pairs / n))


def _at_least_one_row(n: int) -> None:
    if n == 0:
        raise ArgumentError("probabilities has 0 rows; at least 1 is needed.")
