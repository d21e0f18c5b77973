"""Rows around centres, for heads to learn from."""

from __future__ import annotations

import numpy as np

from model.head import HeadFit, fit_head

NAMES = tuple("abcdefghij")


def blobs(n: int, k: int, *, d: int = 48, spread: float = 1.0, seed: int = 0):
    """Rows around k centres, as float16 like kept embeddings, and their positions."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (k, d))
    targets = np.arange(n) % k
    rows = np.maximum(centres[targets] + rng.normal(0, spread, (n, d)), 0)
    return rows.astype(np.float16), targets


def fit(rows: object, targets: object, k: int, *, multiple: bool = False, seed: int = 0) -> HeadFit:
    return fit_head(rows, targets, classes=NAMES[:k], multiple=multiple, seed=seed)
