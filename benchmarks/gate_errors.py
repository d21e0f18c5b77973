"""How often the gate errs: versions that are truly better or worse, judged on n held-out labels.

    python -m benchmarks.gate_errors [--repetitions 2000]

For each image and each model a latent number is drawn, normal with spread 1; the model is right
where it is above 0, and its log loss is that of a logistic model of the same number. The champion
is right on 80% of images. The correlation of the two models' numbers is set so that at no true gain
they differ on a given share of the images: 10% as in a retraining on some more labels, or 20%.
"""

from __future__ import annotations

import argparse
import json
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import multivariate_normal

from model.gate import Graded, Shown, decide

CHAMPION = 0.8
SIZES = (50, 100, 200, 500, 1000)
GAINS = (-0.04, -0.02, 0.0, 0.02, 0.04)
MARGIN = 0.02
# Of a normal number with spread 1, the logistic's own scale: sqrt(3) / pi, stretched to be about
# calibrated at 80% right.
SHARPNESS = 1.7


def correlation(discordance: float) -> float:
    """Of two models that are both right on 80% and differ on this share of images."""
    mean = float(ndtri(CHAMPION))

    def excess(rho: float) -> float:
        both = multivariate_normal([mean, mean], [[1, rho], [rho, 1]]).cdf([0, 0])
        return 2 * ((1 - CHAMPION) - both) - discordance

    return float(brentq(excess, -0.5, 0.999))


def graded(latent: NDArray[np.float64]) -> Graded:
    """What a model makes of labels whose latent numbers these are."""
    return Graded(latent > 0, np.logaddexp(0, -SHARPNESS * latent))


def simulate(
    n: int, gain: float, rho: float, repetitions: int, random: np.random.Generator
) -> dict[str, float]:
    """Shares of the repetitions that are promoted, and that the count alone decides."""
    promoted = kept = refused = 0
    means = float(ndtri(CHAMPION)), float(ndtri(CHAMPION + gain))
    for _ in range(repetitions):
        first = random.standard_normal(n)
        second = rho * first + np.sqrt(1 - rho * rho) * random.standard_normal(n)
        decision = decide(graded(first + means[0]), graded(second + means[1]), margin=MARGIN)
        promoted += decision.promote
        kept += decision.shown is Shown.NOT_WORSE
        refused += decision.shown is Shown.WORSE
    return {
        "promoted": promoted / repetitions,
        "shown_not_worse": kept / repetitions,
        "shown_worse": refused / repetitions,
    }


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repetitions", type=int, default=2000)
    given = arguments.parse_args()
    random = np.random.default_rng(0)
    rows = []
    for discordance in (0.1, 0.2):
        rho = correlation(discordance)
        for n, gain in product(SIZES, GAINS):
            found = simulate(n, gain, rho, given.repetitions, random)
            rows.append({"differ": discordance, "n": n, "gain": gain} | found)
    print(json.dumps({"margin": MARGIN, "champion": CHAMPION, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
