"""A linear classifier whose penalty, temperature and trust in the unlabelled images are chosen on
rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from model.calibrate import fit_temperature, temper_confidence
from model.fold_models import ALL, FOLDS, FoldModels, Shares, learned_rows
from model.linear import principal_axes
from model.metrics import log_loss
from model.pool_prior import PoolPrior

Array = NDArray[np.float64]
AnyArray = NDArray[Any]

# Strongest first: stronger ones are cheaper to fit, and each starts from the one before.
PENALTIES = (5.0, 1.0, 0.2, 0.04, 0.008, 0.0016)
DEFAULT_PENALTY = 0.04
# Measured on digits and CIFAR-10: with 20 labels a fitted temperature worsened the log loss of
# unseen images; from 50 on it was as good or better. The same holds for honest rows beside others
# that the features were fitted to: the penalty that they choose holds the confidence down already,
# and with 8 to 45 of them a temperature that could only rise made the log loss no better.
CALIBRATION_ROWS = 50
CALIBRATION_ROWS_EACH_SIDE = 5
# With many rows each weaker penalty takes seconds, so it must promise more than a hair, and the
# last digits are left alone.
MANY_ROWS = 1000
LEAST_GAIN_OF_MANY = 0.1
TOLERANCE, TOLERANCE_OF_MANY = 1e-3, 1e-2
# By how much the pool's shares, 0 to 1, move a logit: chosen like the penalty, uphill from the
# default. With many rows only whether to listen at all is.
TRUSTS, TRUSTS_OF_MANY, DEFAULT_TRUST = (0.0, 6.0, 12.0, 20.0), (0.0, 12.0), 12.0
# Another trust that is worse by this share at the last one's penalty is not looked into further.
CLEARLY_WORSE = 0.1


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A classifier fitted on every row, and what models without a row say of it.

    ``weights``      (d, k), and ``bias`` (k,), on the rows that were passed in
    ``temperature``  (1,) float32, or (k,) with ``multiple``
    ``out_of_fold``  (n, k) logits, NaN in rows that were not tested; None without folds
    ``penalty``      the one chosen
    ``trust``        how strongly the unlabelled images count, 0 where they do not
    """

    weights: Array
    bias: Array
    temperature: NDArray[np.float32]
    out_of_fold: Array | None
    penalty: float
    trust: float = 0.0


def cross_fit(
    rows: AnyArray,
    targets: NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
    *,
    multiple: bool,
    honest: NDArray[np.bool_] | None = None,
    weights: Array | None = None,
    pool: PoolPrior | None = None,
) -> CrossFit:
    """Fit (n, d) ``rows`` to (n, k) ``targets``; ``folds`` as :mod:`model.folds` gives them.

    Tested are the rows in a fold, or with ``honest``, (n,), those of them that are honest.
    ``weights``, (n,) above 0, say how much each row counts where it is learned.

    Goes from the strongest penalty to the weakest until the cross-validated log loss, at the
    temperature that suits each best, gets worse (above 1,000 rows: is no longer 10% better). Only
    the models of the folds are fitted on the way; that of all rows begins where they ended.
    Without ``multiple`` every class needs a row, and with a ``pool`` the same is done for several
    degrees of trust in it: the logits are then trust times the pool's shares plus what is fitted
    on top. Each fold's model has shares of its own, from the labels that it may know.

    The linear algebra library is held to one thread: beside a busy server its own wait for each
    other longer than they work (measured: 31 s instead of 5 s on two shared cores). Large fits are
    parted among threads of ours (:mod:`model.parallel`).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        pool = None if multiple else pool
        return _cross_fit(rows, targets, folds, multiple, honest, weights, pool)


def calibrated(
    logits: NDArray[np.floating], temperature: NDArray[np.floating], multiple: bool
) -> Array:
    """(n, k) logits -> (n, k) float64 probabilities: sigmoids, or softmax rows that sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    return np.asarray(expit(scaled) if multiple else softmax(scaled, axis=1), dtype=np.float64)


def _cross_fit(
    rows: AnyArray,
    targets: NDArray[np.bool_],
    folds: NDArray[np.int64] | None,
    multiple: bool,
    honest: NDArray[np.bool_] | None,
    weights: Array | None,
    pool: PoolPrior | None,
) -> CrossFit:
    included: Array = learned_rows(len(rows), folds)
    if weights is not None:
        included *= weights[:, None, None]
    flags = targets.astype(np.float64)
    shares = None if pool is None else Shares(pool, rows, flags, included[:, :, 0])
    models = FoldModels(principal_axes(rows, weights), flags, included, multiple, shares)
    if folds is None:
        trust = DEFAULT_TRUST if shares else 0.0
        only = models.fit(ALL, DEFAULT_PENALTY, trust, None, TOLERANCE)
        ones = _ones(targets, multiple)
        return CrossFit(*models.whole(only, trust), ones, None, DEFAULT_PENALTY, trust)
    tested = folds >= 0 if honest is None else (folds >= 0) & honest
    search = _Search(models, targets, np.where(tested, folds, -1), len(rows) > MANY_ROWS)
    found = search.best()
    start = models.middle(found.solution)
    last = models.fit(ALL, found.penalty, found.trust, start, search.tolerance)
    whole = models.whole(last, found.trust)
    return CrossFit(*whole, found.temperature, found.logits, found.penalty, found.trust)


@dataclass(frozen=True, eq=False)
class _Found:
    """What the models of the folds came to at one penalty and trust.

    ``solution``  (r + 1, folds, k) as :func:`model.linear.fit_linear` gives it
    ``logits``    (n, k) out of fold
    ``loss``      their log loss at the ``temperature`` that suits them best
    """

    penalty: float
    trust: float
    solution: Array
    logits: Array
    temperature: NDArray[np.float32]
    loss: float


class _Search:
    """Looks for the penalty and the trust whose out-of-fold log loss is least, each fit from the
    one before on. ``tested`` is the fold of the rows that are tested, -1 for the others."""

    def __init__(
        self, models: FoldModels, targets: NDArray[np.bool_], tested: NDArray[np.int64], many: bool
    ) -> None:
        self._models, self._targets, self._tested = models, targets, tested
        self.tolerance = TOLERANCE_OF_MANY if many else TOLERANCE
        self._worthwhile = LEAST_GAIN_OF_MANY if many else 0.0
        self._trusts: Sequence[float] = (0.0,)
        if models.shares is not None:
            self._trusts = TRUSTS_OF_MANY if many else TRUSTS

    def best(self) -> _Found:
        """From the default trust on to one side and then the other, as long as it gets better."""
        middle = self._trusts.index(DEFAULT_TRUST) if DEFAULT_TRUST in self._trusts else 0
        first = best = self._first(self._trusts[middle])
        for side in (self._trusts[middle + 1 :], self._trusts[:middle][::-1]):
            for trust in side:
                found = self._beside(best, trust)
                if found.loss >= best.loss:
                    break
                best = found
            if best is not first:
                break
        return best

    def _first(self, trust: float) -> _Found:
        """The best penalty, from the strongest on."""
        return self._along(self._at(PENALTIES[0], trust), PENALTIES[1:])

    def _beside(self, known: _Found, trust: float) -> _Found:
        """The best penalty at another trust, from the one that was best at the last on."""
        place = PENALTIES.index(known.penalty)
        here = self._at(known.penalty, trust, known)
        if here.loss > known.loss * (1 + CLEARLY_WORSE):
            return here
        found = self._along(here, PENALTIES[place + 1 :])
        return self._along(here, PENALTIES[:place][::-1]) if found is here else found

    def _along(self, best: _Found, penalties: Sequence[float]) -> _Found:
        """Go on while the loss gets less by as much as a fit should be worth."""
        for penalty in penalties:
            found, least = self._at(penalty, best.trust, best), best.loss
            if found.loss < least:
                best = found
            if found.loss >= least * (1 - self._worthwhile):
                break
        return best

    def _at(self, penalty: float, trust: float, known: _Found | None = None) -> _Found:
        start = known.solution if known else None
        models, judged = self._models, self._tested >= 0
        solution = models.fit(FOLDS, penalty, trust, start, self.tolerance)
        logits = models.out_of_fold(solution, self._tested, trust)
        temperature, loss = _calibrated_loss(logits[judged], self._targets[judged], models.multiple)
        return _Found(penalty, trust, solution, logits, temperature, loss)


def _ones(flags: NDArray[np.bool_], multiple: bool) -> NDArray[np.float32]:
    return np.ones(flags.shape[1] if multiple else 1, dtype=np.float32)


def _calibrated_loss(
    logits: Array, flags: NDArray[np.bool_], multiple: bool
) -> tuple[NDArray[np.float32], float]:
    """The temperature for tested rows' logits, and their mean log loss with it."""
    truth = flags if multiple else flags.argmax(axis=1)
    temperature = _ones(flags, multiple)
    if len(logits) >= CALIBRATION_ROWS:
        temperature = fit_temperature(logits, truth, multiple)
        if multiple:
            fewer = np.minimum(flags.sum(axis=0), (~flags).sum(axis=0))
            temperature[fewer < CALIBRATION_ROWS_EACH_SIDE] = 1
    temperature = temper_confidence(logits, temperature, multiple)
    return temperature, log_loss(calibrated(logits, temperature, multiple), truth)
