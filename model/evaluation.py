"""Every measure of a classifier on labels it has not seen, each with its interval and its n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    multilabel_confusion_matrix,
    roc_auc_score,
)

from model.bootstrap import draw_counts, enough_draws, percentile_interval, weighted_auc
from model.calibrate import ECE_BINS, calibration_gaps, expected_calibration_error
from model.checks import class_flags, class_positions, probability_matrix, whole_numbers
from model.errors import ArgumentError
from model.metrics import effective_count, log_loss, log_losses, wilson_interval

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Number = dict[str, Any]

MINIMUM_SHARE = 10
MINIMUM_MEAN = 30
MINIMUM_CALIBRATION = 100
MOST_CONFUSED_CLASSES = 100
MOST_STEPS = 10
LEAST_IN_STEP = 20
TOP = 3


@dataclass(frozen=True, eq=False)
class _Rows:
    """n rows of k classes: probabilities, what is true and what is said, all (n, k).

    ``groups``  (n,) what group each row was drawn with
    ``counts``  (draws, n) how often each row is in each draw of the bootstrap
    """

    probabilities: Array
    targets: NDArray[Any]
    truth: Flags
    said: Flags
    groups: NDArray[np.int64]
    counts: NDArray[np.float32]

    @property
    def n(self) -> int:
        return len(self.truth)

    @property
    def present(self) -> NDArray[np.int64]:
        """Positions of the classes that have a label."""
        return np.flatnonzero(self.truth.any(axis=0))


def evaluate(
    probabilities: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str],
    multiple: bool,
    seed: int,
    *,
    thresholds: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measure (n, k) probabilities against labels; everything in the result is plain JSON.

    ``targets`` are (n,) class positions, or with ``multiple`` (n, k) flags; then a class is said
    from its ``thresholds`` on, (k,) or, where each row has its own, (n, k); 0.5 by default.
    ``seed`` fixes the draws of the bootstrap. ``groups``, (n,) whole numbers: rows of one group are
    near-duplicates that were drawn together, so that they tell less than as many that were not;
    without it each row was drawn alone.

    A number is ``{"value", "low", "high", "n"}``: low to high is a 95% interval, n what it was
    counted on. Proportions have Wilson's interval, of as many rows as
    :func:`model.metrics.effective_count` says, the others a bootstrap's percentiles over groups,
    widened to hold the value where resampling is biased, as it is for the calibration error.
    Where n is too small to say, value, low and high are None and ``reason`` says so:

    * proportions below 10, or of groups that tell no more than that: any of them would have an
      interval about half the scale wide;
    * what is bootstrapped below 30: too few rows to stand for those that were not drawn;
    * the calibration error below 100: with 15 bins even perfect probabilities seem to err by
      about 0.1 there;
    * top-3 with three classes or fewer: it is always right;
    * the area under the ROC curve where no class has both a yes and a no.

    Result: ``n``, ``classes``, ``multiple``, and

    * ``accuracy``, ``top_3``, ``macro_f1``, ``weighted_f1``; with ``multiple`` ``exact_match``,
      ``micro_f1``, ``macro_f1``. Macro means run over the classes that have a label.
    * ``roc_auc``, one class against the rest, the mean over the classes that have both.
    * ``log_loss`` (nats) and ``ece``, as :mod:`model.metrics` and :mod:`model.calibrate` say.
    * ``reliability``: what is said with a like confidence together, the least sure first, in at
      most 10 steps of as many rows each, 20 or more: the mean ``confidence``, and the ``share``
      that is right as a number. With ``multiple`` each of the n * k yes-or-no questions is one,
      the confidence that of a yes, and right is a yes. None below 100 rows.
    * ``per_class``: for each class ``class``, ``precision``, ``recall`` and ``support``, its
      labels.
    * ``confusion``: (k, k) counts, rows what is true, columns what is said; with ``multiple``
      (k, 2, 2), of each class [[true no, false yes], [false no, true yes]]. None above 100 classes.

    ArgumentError when the arrays do not fit.
    """
    names = list(classes)
    p = probability_matrix("probabilities", probabilities, rows_sum_to_one=not multiple)
    n, k = p.shape
    if k != len(names):
        raise ArgumentError(f"probabilities has {k} columns for {len(names)} classes.")
    generator = np.random.default_rng(seed)
    drawn = np.arange(n) if groups is None else whole_numbers("groups", groups, length=n)
    counts = _counts(drawn, enough_draws(n * k), generator)
    if multiple:
        flags = class_flags("targets", targets, length=n, class_count=k)
        rows = _Rows(p, flags, flags, p >= _thresholds(thresholds, n, k), drawn, counts)
    else:
        positions = class_positions("targets", targets, length=n, class_count=k)
        each = np.eye(k, dtype=np.bool_)
        rows = _Rows(p, positions, each[positions], each[p.argmax(axis=1)], drawn, counts)
    found: dict[str, Any] = {"n": n, "classes": names, "multiple": multiple}
    found |= _shares(rows, multiple) | _f1s(rows, multiple)
    found |= {"roc_auc": _roc_auc(rows), "log_loss": _log_loss(rows), "ece": _ece(rows)}
    return found | {
        "reliability": _reliability(rows, multiple),
        "per_class": [_of_class(rows, names, c) for c in range(k)],
        "confusion": _confusion(rows, multiple),
    }


def _counts(
    groups: NDArray[np.int64], draws: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """(draws, n) how often each row is drawn: groups are, as often as there are groups."""
    if not groups.size:
        return np.zeros((draws, 0), dtype=np.float32)
    names, where = np.unique(groups, return_inverse=True)
    counts: NDArray[np.float32] = draw_counts(names.size, draws, generator)[:, where]
    return counts


def _thresholds(values: ArrayLike | None, n: int, k: int) -> Array:
    if values is None:
        return np.full(k, 0.5)
    found = np.asarray(values, dtype=np.float64)
    if found.shape not in ((k,), (n, k)) or not np.isfinite(found).all():
        raise ArgumentError(f"thresholds has shape {found.shape}; ({k},) numbers are needed.")
    return found


def _shares(rows: _Rows, multiple: bool) -> dict[str, Number]:
    right = (rows.said == rows.truth).all(axis=1)
    if multiple:
        return {"exact_match": _proportion(right, rows.groups)}
    found = {"accuracy": _proportion(right, rows.groups)}
    k = rows.truth.shape[1]
    if k <= TOP:
        return found | {"top_3": _unknown(rows.n, f"with {k} classes it is always right")}
    # Of equal probabilities the last ones count, as scikit-learn's top_k_accuracy_score has it.
    top = np.argsort(rows.probabilities, axis=1, kind="stable")[:, -TOP:]
    among = (top == rows.targets[:, None]).any(axis=1)
    return found | {"top_3": _proportion(among, rows.groups)}


def _f1s(rows: _Rows, multiple: bool) -> dict[str, Number]:
    averages = ("micro", "macro") if multiple else ("macro", "weighted")
    if rows.n < MINIMUM_MEAN:
        return {f"{a}_f1": _too_few(rows.n, MINIMUM_MEAN) for a in averages}
    if not rows.present.size:
        none = "cannot tell yet: no class has a yes"
        return {f"{a}_f1": _unknown(rows.n, none) for a in averages}
    truth, said = rows.truth, rows.said
    hits, wanted, given = (
        (rows.counts @ flags[:, rows.present].astype(np.float32)).astype(np.float64)
        for flags in (truth & said, truth, said)
    )
    each = np.divide(2 * hits, wanted + given, out=np.zeros_like(hits), where=wanted + given > 0)
    drawn = {
        # A class that a draw has no label of says nothing there.
        "macro": _mean_where(each, wanted > 0),
        "weighted": (each * wanted).sum(axis=1) / np.maximum(wanted.sum(axis=1), 1),
        "micro": 2 * hits.sum(axis=1) / np.maximum((wanted + given).sum(axis=1), 1),
    }
    y, s = (truth, said) if multiple else (rows.targets, said.argmax(axis=1))
    found = {}
    for a in averages:
        value = f1_score(y, s, labels=rows.present, average=a, zero_division=0)
        found[f"{a}_f1"] = _estimate(float(value), drawn[a], rows.n)
    return found


def _roc_auc(rows: _Rows) -> Number:
    if rows.n < MINIMUM_MEAN:
        return _too_few(rows.n, MINIMUM_MEAN)
    both = np.flatnonzero(rows.truth.any(axis=0) & ~rows.truth.all(axis=0))
    if not both.size:
        return _unknown(rows.n, "cannot tell yet: no class has both a yes and a no")
    values = [roc_auc_score(rows.truth[:, c], rows.probabilities[:, c]) for c in both]
    drawn = np.stack(
        [weighted_auc(rows.probabilities[:, c], rows.truth[:, c], rows.counts) for c in both], 1
    )
    return _estimate(float(np.mean(values)), _mean_where(drawn, ~np.isnan(drawn)), rows.n)


def _log_loss(rows: _Rows) -> Number:
    if rows.n < MINIMUM_MEAN:
        return _too_few(rows.n, MINIMUM_MEAN)
    drawn = rows.counts @ log_losses(rows.probabilities, rows.targets) / rows.counts.sum(axis=1)
    return _estimate(log_loss(rows.probabilities, rows.targets), drawn, rows.n)


def _ece(rows: _Rows) -> Number:
    if rows.n < MINIMUM_CALIBRATION:
        return _too_few(rows.n, MINIMUM_CALIBRATION)
    gaps = calibration_gaps(rows.probabilities, rows.targets, ECE_BINS)
    drawn = np.abs(rows.counts @ gaps).sum(axis=1) / rows.counts.sum(axis=1)
    return _estimate(expected_calibration_error(rows.probabilities, rows.targets), drawn, rows.n)


def _reliability(rows: _Rows, multiple: bool) -> list[dict[str, Any]] | None:
    if rows.n < MINIMUM_CALIBRATION:
        return None
    right: Flags
    if multiple:
        confidence, right = rows.probabilities.ravel(), rows.truth.ravel()
        groups = np.repeat(rows.groups, rows.truth.shape[1])
    else:
        confidence, groups = rows.probabilities.max(axis=1), rows.groups
        right = np.asarray((rows.said & rows.truth).any(axis=1))
    steps = min(MOST_STEPS, len(confidence) // LEAST_IN_STEP)
    return [
        {
            "confidence": float(confidence[step].mean()),
            "share": _proportion(right[step], groups[step]),
        }
        for step in np.array_split(np.argsort(confidence, kind="stable"), steps)
    ]


def _of_class(rows: _Rows, names: list[str], c: int) -> dict[str, Any]:
    truth, said = rows.truth[:, c], rows.said[:, c]
    return {
        "class": names[c],
        "precision": _proportion(truth[said], rows.groups[said]),
        "recall": _proportion(said[truth], rows.groups[truth]),
        "support": int(truth.sum()),
    }


def _confusion(rows: _Rows, multiple: bool) -> list[Any] | None:
    k = rows.truth.shape[1]
    if k > MOST_CONFUSED_CLASSES:
        return None
    if rows.n == 0:
        counted = np.zeros((k, 2, 2) if multiple else (k, k), dtype=np.int64)
    elif multiple:
        counted = multilabel_confusion_matrix(rows.truth, rows.said, labels=np.arange(k))
    else:
        said = rows.said.argmax(axis=1)
        counted = confusion_matrix(rows.targets, said, labels=np.arange(k))
    return list(counted.astype(int).tolist())


def _proportion(right: Flags, groups: NDArray[np.int64]) -> Number:
    n, hits = right.size, int(right.sum())
    if n < MINIMUM_SHARE:
        return _too_few(n, MINIMUM_SHARE)
    effective = effective_count(right, groups)
    if effective < MINIMUM_SHARE:
        told = f"{int(effective)} of {MINIMUM_SHARE} labels, near-duplicates counted once"
        return _unknown(n, f"cannot tell yet: {told}")
    low, high = wilson_interval(hits * (effective / n), effective)
    return {"value": hits / n, "low": low, "high": high, "n": n}


def _estimate(value: float, drawn: Array, n: int) -> Number:
    low, high = percentile_interval(drawn)
    return {"value": value, "low": min(low, value), "high": max(high, value), "n": n}


def _too_few(n: int, minimum: int) -> Number:
    return _unknown(n, f"cannot tell yet: {n} of {minimum} labels")


def _unknown(n: int, reason: str) -> Number:
    return {"value": None, "low": None, "high": None, "n": n, "reason": reason}


def _mean_where(values: Array, counted: Flags) -> Array:
    """(draws, k) -> (draws,) mean over the classes that count; NaN where none does."""
    totals = np.where(counted, values, 0).sum(axis=1)
    sizes = counted.sum(axis=1)
    means: Array = np.full(len(values), np.nan)
    np.divide(totals, sizes, out=means, where=sizes > 0)
    return means
