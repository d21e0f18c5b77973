"""Accept what the model is sure of, with a bounded share of wrong ones.

The audit images are drawn by chance from all images, labelled by people and never trained on. Of
those that are at least as sure as a threshold, some are wrong. How many can then be wrong among the
images that nobody labelled and that are as sure, is a question with an exact answer:

**One threshold.** Of N images at or above it, n are audit images. Which ones was left to chance, so
if E of the N are wrong, the audit images have e of them by a hypergeometric law, and

    p = P(Hypergeometric(N, w, n) <= e)

is a p-value for "E >= w": so few errors had that chance at most. Tested is the w that no accepted
image too many can come with: when E < w, at most ``max_error`` of the others are wrong, even if all
E are among them. For many others p becomes P(Binomial(n, max_error) <= e), the test of Clopper and
Pearson (1934), whose bound :func:`error_bound` gives.

**Many thresholds.** Geifman and El-Yaniv, *Selective Classification for Deep Neural Networks*
(2017), search the threshold by halving and pay for each one tried (a union bound). Here thresholds
are tested in a sequence that is fixed before any audit label is looked at, each at the whole
alpha = 1 - ``confidence``, until one fails; the last that passed is taken. That needs no correction
(fixed-sequence testing; Angelopoulos et al., *Learn then Test*, 2021, section 3): let the first
threshold of the sequence with E >= w be the bad one. To accept too much, it must pass itself, and
that happens with a chance of alpha at most. Thresholds, their sequence and w are functions of the
confidences of audit images and others *together* and of their numbers. So they say nothing of which
ones are audit images; nothing is assumed of the model, its calibration or the labels.

The sequence goes down from where the model's own confidences foretell the clearest proof. Where
they mislead, less is accepted or nothing, never more than promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, gammaln

from model.checks import inner_share, row_flags, whole_numbers
from model.error_bounds import error_bound
from model.errors import ArgumentError
from model.percents import percent
from model.plurals import counted

STEPS = 50


"""Thresholds tried: the most confident 2% of all images, 4%, and so on."""


_MOST_LABELS = 1_000_000


Array = NDArray[np.float64]


@dataclass(frozen=True)
class Promise:
    """From which confidence on a model's answers may be accepted, or why none may.

    ``threshold``  least confidence that is accepted; None where nothing can be promised
    ``labels``     audit labels at or above it; where it refuses, of the test that failed
    ``errors``     how many of them are wrong
    ``accepted``   images at or above it that nobody labelled; 0 where it refuses
    ``bound``      upper end for the share of wrong ones, from these labels alone
    ``more``       where it refuses, how many more audit labels it takes at least; None where that
                   cannot help
    ``reason``     one sentence
    """

    threshold: float | None
    labels: int
    errors: int
    accepted: int
    bound: float
    more: int | None
    reason: str


def choose_threshold(
    confidence_of_audit: ArrayLike,
    right: ArrayLike,
    confidence_of_others: ArrayLike,
    *,
    max_error: float,
    confidence: float = 0.95,
) -> Promise:
    """The lowest threshold from which at most ``max_error`` of the accepted ones are wrong.

    ``confidence_of_audit``   (n,) probability of the likeliest class of each audit image, in [0, 1]
    ``right``                 (n,) bool: whether that class is what people said
    ``confidence_of_others``  (m,) the same of the images that may be accepted
    ``confidence``            chance that the promise holds, over draws of the audit images

    Near-duplicates are drawn together, so the caller gives one row for each group of them.
    ArgumentError when the arrays do not fit or a number is outside (0, 1).
    """
    audit, others = _probabilities(confidence_of_audit), _probabilities(confidence_of_others)
    wrong = ~row_flags("right", right, length=audit.size)
    alpha = 1 - inner_share("confidence", confidence)
    inner_share("max_error", max_error)
    if not others.size:
        return _refused(_Test(1.0, 0, 0, 0, 1), None, confidence, "There is no image to accept.")
    passed: _Test | None = None
    tests = _tests(audit, wrong, others, max_error)
    for test in tests:
        if not test.passes(max_error, alpha):
            break
        passed = test
    if passed is None:
        return _too_few(tests, audit.size, others.size, max_error, confidence)
    n, e, bound = passed.labels, passed.errors, passed.bound(confidence)
    reason = (
        f"Of {counted(n, 'audit label')} at least {passed.threshold:.1%} sure, "
        f"{e} {'is' if e == 1 else 'are'} wrong."
    )
    return Promise(passed.threshold, n, e, passed.others, bound, None, reason)


def choose_per_class(
    confidence_of_audit: ArrayLike,
    predicted_of_audit: ArrayLike,
    right: ArrayLike,
    confidence_of_others: ArrayLike,
    predicted_of_others: ArrayLike,
    *,
    classes: int,
    max_error: float,
    confidence: float = 0.95,
) -> list[Promise]:
    """A threshold for each predicted class, so that no class has more wrong ones than promised.

    As :func:`choose_threshold`, of the images predicted as each class alone; the positions of the
    predicted classes are (n,) and (m,). Each class is tested at (1 - confidence) / classes (a union
    bound), so that all promises hold together, and so does the one for all classes. A class with
    too few audit labels refuses by itself. ArgumentError as there.
    """
    audit, others = _probabilities(confidence_of_audit), _probabilities(confidence_of_others)
    flags = row_flags("right", right, length=audit.size)
    mine = whole_numbers("predicted_of_audit", predicted_of_audit, length=audit.size)
    theirs = whole_numbers("predicted_of_others", predicted_of_others, length=others.size)
    if classes < 1:
        raise ArgumentError(f"classes is {classes!r}; 1 or more is needed.")
    each = 1 - (1 - inner_share("confidence", confidence)) / classes

    def of_class(c: int) -> Promise:
        rows = mine == c
        return choose_threshold(
            audit[rows], flags[rows], others[theirs == c], max_error=max_error, confidence=each
        )

    return [of_class(c) for c in range(classes)]


@dataclass(frozen=True)
class _Test:
    """What is seen at one threshold, and ``wrong``, the w of the module."""

    threshold: float
    labels: int
    errors: int
    others: int
    wrong: int

    def passes(self, max_error: float, alpha: float) -> bool:
        """Whether so few errors show that the others keep the promise."""
        allowed = math.floor(max_error * self.others + 1e-9)
        return self.wrong - 1 <= allowed and self.chance(self.labels) <= alpha

    def chance(self, labels: int) -> float:
        """The p-value if there were so many labels, and no more errors than there are."""
        total = labels + self.others
        if total < self.wrong:
            return 1.0
        return _hypergeometric(self.errors, total, self.wrong, labels)

    def bound(self, confidence: float) -> float:
        return error_bound(self.errors, self.labels, confidence)


def _tests(audit: Array, wrong: NDArray[np.bool_], others: Array, max_error: float) -> list[_Test]:
    """The tests in their order; only ``labels``, ``errors`` and ``others`` know the audit set."""
    everyone = np.sort(np.concatenate([audit, others]))[::-1]
    last = np.ceil(np.arange(1, STEPS + 1) / STEPS * everyone.size).astype(np.int64) - 1
    thresholds = np.unique(everyone[last])[::-1]
    counts = np.searchsorted(-everyone, -thresholds, side="right")
    expected = counts * (audit.size / everyone.size)
    foretold = np.asarray(np.cumsum(1 - everyone)[counts - 1] / counts, dtype=np.float64)
    first = _clearest(foretold, np.asarray(expected, dtype=np.float64), max_error)
    # Two standard deviations more audit images than expected leave so many others at least.
    least = np.maximum(counts - expected - 2 * np.sqrt(expected), 0)
    return [
        _Test(
            float(threshold),
            int((audit >= threshold).sum()),
            int(wrong[audit >= threshold].sum()),
            int((others >= threshold).sum()),
            math.floor(max_error * few + 1e-9) + 1,
        )
        for threshold, few in zip(thresholds[first:], least[first:], strict=True)
    ]


def _clearest(foretold: Array, labels: Array, max_error: float) -> int:
    """Where P(Binomial(labels, max_error) <= errors) is smallest, for the errors foretold."""
    errors = foretold * labels
    proof = betainc(np.maximum(labels - errors, 1e-9), errors + 1, 1 - max_error)
    return int(np.argmin(proof))


def _too_few(
    tests: Sequence[_Test], audit: int, others: int, max_error: float, confidence: float
) -> Promise:
    """A refusal, with the least number of audit labels that could change it."""
    first = tests[0]
    more = min(_more(test, audit, 1 - confidence) for test in tests)
    seen = (
        f"of {counted(first.labels, 'audit label')} at least {first.threshold:.1%} sure, "
        f"{first.errors} {'is' if first.errors == 1 else 'are'} wrong"
    )
    if more >= _MOST_LABELS:
        reason = f"At most {percent(max_error)}% wrong cannot be promised of so few images: {seen}."
        return _refused(first, None, confidence, reason)
    if more > others:
        reason = (
            f"At most {percent(max_error)}% wrong cannot be promised of so few images: {seen}. It "
            f"would take {counted(more, 'more audit label')} at least, and {others} other "
            f"{'image is' if others == 1 else 'images are'} waiting."
        )
        return _refused(first, more, confidence, reason)
    reason = (
        f"At most {percent(max_error)}% wrong cannot be promised yet: {seen}. It takes "
        f"{counted(more, 'more audit label')} at least, if the model is right wherever it is that "
        "sure."
    )
    return _refused(first, more, confidence, reason)


def _more(test: _Test, audit: int, alpha: float) -> int:
    """Audit labels that a test lacks if all further ones that it counts are right."""
    needed = _least(lambda n: test.chance(n) <= alpha, test.labels)
    if needed >= _MOST_LABELS:
        return _MOST_LABELS
    share = test.labels / audit if test.labels else 1.0
    return max(1, math.ceil((needed - test.labels) / share))


def _hypergeometric(errors: int, total: int, wrong: int, drawn: int) -> float:
    """P(at most ``errors`` of the ``drawn``), when ``wrong`` of the ``total`` are wrong."""
    k = np.arange(max(0, drawn - (total - wrong)), min(errors, wrong, drawn) + 1)
    # ln of C(wrong, k) C(total - wrong, drawn - k) / C(total, drawn)
    parts = (wrong, total - wrong, drawn, total - drawn)
    terms = (k, wrong - k, drawn - k, total - wrong - drawn + k)
    ways = sum(gammaln(n + 1.0) for n in parts) - gammaln(total + 1.0)
    return float(np.exp(ways - sum(gammaln(t + 1.0) for t in terms)).sum())


def _least(enough: Callable[[int], bool], above: int) -> int:
    """The least number above another that is enough, where more is enough too."""
    low, high = above, max(2 * above, 1)
    while not enough(high):
        low, high = high, 2 * high
        if high >= _MOST_LABELS:
            return _MOST_LABELS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _refused(test: _Test, more: int | None, confidence: float, reason: str) -> Promise:
    return Promise(None, test.labels, test.errors, 0, test.bound(confidence), more, reason)


def _probabilities(values: ArrayLike) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not ((found >= 0) & (found <= 1 + 1e-6)).all():
        raise ArgumentError(f"confidence has shape {found.shape}; (n,) in [0, 1] is needed.")
    return np.minimum(found, 1.0)
