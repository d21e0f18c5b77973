"""Shapes that learning curves take: the share of wrong answers, falling with the labels learned.

Each family draws ``m`` curves through given errors at the labels learned by now, with the rest of
their parameters from a prior. The forms are those of Viering and Loog, *The Shape of
Learning Curves: a Review* (2023), table 1, and of Mohr et al., *LCDB 1.0* (2022), written for the
error and never rising. ``floor`` is the error that no number of labels takes away; its share of the
error by now is uniform on (0, 1), so that a curve that has nearly come to its end is as likely, at
first, as one that goes on to zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Curves = Callable[[Array], Array]
"""(p,) numbers of labels, at least 1 -> (m, p) errors, never rising with the labels."""

Family = Callable[[float, Array, np.random.Generator], Curves]
"""(labels by now, (m,) errors in (0, 1) by now, generator) -> m curves through them."""

# Medians and spreads of the logarithm: 95% of the exponents are within 0.13 and 2, those of the
# sigmoid shapes within 0.3 and 2.1 (Hill) or 0.2 and 1.3 (Weibull).
_POWER, _POWER_SPREAD = 0.5, 0.7
_RATE, _RATE_SPREAD = 0.7, 1.0
_HILL, _WEIBULL, _STEEPNESS_SPREAD = 0.8, 0.5, 0.5


def power(now: float, error: Array, generator: np.random.Generator) -> Curves:
    """floor + a n^-b, POW3. Frey and Fisher (1999); Hestness et al. (2017), section 3."""
    floor = _floor(error, generator)
    exponent = _log_normal(_POWER, _POWER_SPREAD, error, generator)
    return lambda labels: floor + (error[:, None] - floor) * (labels / now) ** -exponent


def exponential(now: float, error: Array, generator: np.random.Generator) -> Curves:
    """floor + a exp(-b n), EXP3: the fastest to come to its end."""
    floor = _floor(error, generator)
    rate = _log_normal(_RATE, _RATE_SPREAD, error, generator)
    return lambda labels: floor + (error[:, None] - floor) * np.exp(-rate * (labels / now - 1))


def hill(now: float, error: Array, generator: np.random.Generator) -> Curves:
    """floor + (top - floor) / (1 + (n / h)^d), MMF4. Morgan, Mercer and Flodin (1975)."""
    floor, top = _floor(error, generator), _top(error, generator)
    steepness = _log_normal(_HILL, _STEEPNESS_SPREAD, error, generator)
    odds = (top - floor) / (error[:, None] - floor) - 1
    return lambda labels: floor + (top - floor) / (1 + odds * (labels / now) ** steepness)


def weibull(now: float, error: Array, generator: np.random.Generator) -> Curves:
    """floor + (top - floor) exp(-a n^d), WBL4."""
    floor, top = _floor(error, generator), _top(error, generator)
    steepness = _log_normal(_WEIBULL, _STEEPNESS_SPREAD, error, generator)
    depth = np.log((top - floor) / (error[:, None] - floor))
    return lambda labels: floor + (top - floor) * np.exp(-depth * (labels / now) ** steepness)


def inverse_log(now: float, error: Array, generator: np.random.Generator) -> Curves:
    """floor + a / ln(n + 1), ILOG2: the slowest."""
    floor = _floor(error, generator)
    start = np.log(now + 1)
    return lambda labels: floor + (error[:, None] - floor) * start / np.log(labels + 1)


FAMILIES: dict[str, Family] = {
    "power": power,
    "exponential": exponential,
    "hill": hill,
    "weibull": weibull,
    "inverse-log": inverse_log,
}


def _floor(error: Array, generator: np.random.Generator) -> Array:
    """(m, 1) errors at the end, uniform below those by now."""
    return error[:, None] * generator.uniform(size=(len(error), 1))


def _top(error: Array, generator: np.random.Generator) -> Array:
    """(m, 1) errors at no label, uniform above those by now."""
    share = generator.uniform(0.02, 1, size=(len(error), 1))
    return error[:, None] + (1 - error[:, None]) * share


def _log_normal(
    median: float, spread: float, error: Array, generator: np.random.Generator
) -> Array:
    return median * np.exp(spread * generator.standard_normal((len(error), 1)))
