"""What so many wrong ones of so many labels say of the share of wrong ones."""

from __future__ import annotations

import math

from scipy.special import betaincc, betaincinv, betaln

from model.checks import inner_share
from model.errors import ArgumentError


def error_bound(errors: int, labels: int, confidence: float = 0.95) -> float:
    """Upper bound for a share of wrong ones, of which ``errors`` of ``labels`` were seen.

    Clopper and Pearson, *The Use of Confidence or Fiducial Limits* (1934), one-sided: the share at
    which so few errors or fewer have a chance of 1 - ``confidence``. With no error it is
    1 - (1 - confidence)^(1/labels). 1 without labels. ArgumentError when the counts do not fit.
    """
    _check_counts(errors, labels)
    inside = inner_share("confidence", confidence)
    return 1.0 if errors == labels else float(betaincinv(errors + 1, labels - errors, inside))


def contradicted(errors: int, labels: int, max_error: float, confidence: float = 0.95) -> bool:
    """Whether checks show that more than ``max_error`` are wrong: ``errors`` of ``labels`` are.

    It may be asked after every label: where at most ``max_error`` are wrong, it ever says so with a
    chance of at most 1 - ``confidence``, while a binomial test asked as often would err in one of
    four. With m = ``max_error``, e errors and r right ones, the mean over q in (m, 1), of density
    proportional to 1/sqrt(q), of the likelihood ratio

        (q / m)^e ((1 - q) / (1 - m))^r

    is a supermartingale that begins at 1 wherever the true share is at most m, so it ever reaches
    1 / (1 - confidence) with that chance at most (Ville 1939; Robbins, *Statistical Methods Related
    to the Law of the Iterated Logarithm*, 1970). ArgumentError when the counts do not fit.
    """
    _check_counts(errors, labels)
    limit, m = 1 - inner_share("confidence", confidence), inner_share("max_error", max_error)
    if not errors:
        return False
    a, b = errors + 0.5, labels - errors + 1.0
    mean = betaincc(a, b, m) * 0.5 / (1 - math.sqrt(m))
    ratio = betaln(a, b) - errors * math.log(m) - (labels - errors) * math.log1p(-m)
    return bool(mean > 0 and ratio + math.log(mean) >= -math.log(limit))


def _check_counts(errors: int, labels: int) -> None:
    if not 0 <= errors <= labels:
        raise ArgumentError(f"errors is {errors!r} of labels {labels!r}; 0 <= errors <= labels.")
