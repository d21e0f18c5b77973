"""The gate in front of real labels: what is spoiled is refused, what is clean passes."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.gate_labels import Retraining, Sizes, spoiled

SIZES = Sizes(held_out=200, learned=200, new=200)
TIMES = 3


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Grey values of the digits as features."""
    found = load_digits()
    return found.data.astype(np.float32) / 16, found.target.astype(np.int64)


def test_wrong_labels_are_refused_and_clean_ones_pass() -> None:
    embeddings, labels = digits()
    for seed in range(TIMES):
        drawn = Retraining(embeddings, labels, SIZES, seed)
        told, spoiled_head = drawn.challenger(0.4)
        wrong = drawn.judged(told, spoiled_head)
        assert not wrong.promote, wrong.reason
        assert drawn.gain(spoiled_head) < -0.02
        told, head = drawn.challenger(0.0)
        clean = drawn.judged(told, head)
        assert clean.promote, clean.reason
        assert drawn.gain(head) > -0.02


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_exactly_this_share_is_made_wrong(share: float) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 500)
    found = spoiled(labels, share, 10, np.random.default_rng(1))
    assert (found != labels).sum() == round(500 * share)
    assert set(found) <= set(range(10))
