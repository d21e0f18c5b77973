from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.folds import NEVER_TESTED, assign_folds, class_folds, flag_folds

labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


@given(labels, st.integers(2, 6), st.integers(0, 9))
def test_folds_have_one_size_and_one_mix(strata: np.ndarray, folds: int, seed: int):
    assigned = assign_folds(strata, folds, np.random.default_rng(seed))
    sizes = np.bincount(assigned, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for stratum in np.unique(strata):
        mix = np.bincount(assigned[strata == stratum], minlength=folds)
        assert mix.max() - mix.min() <= 1


@given(labels, st.integers(0, 9))
def test_every_tested_class_is_still_seen_without_its_fold(targets: np.ndarray, seed: int):
    assigned = class_folds(targets, 5, np.random.default_rng(seed))
    counts = np.bincount(targets)
    if np.count_nonzero(counts >= 2) < 2:
        assert assigned is None
        return
    assert assigned is not None
    assert ((assigned == NEVER_TESTED) == (counts[targets] == 1)).all()
    for fold in range(assigned.max() + 1):
        held = targets[assigned == fold]
        assert held.size > 0
        assert np.isin(held, targets[assigned != fold]).all()


def test_the_same_seed_gives_the_same_folds():
    targets = np.arange(40) % 3
    one, two, other = (class_folds(targets, 5, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.tolist() == two.tolist()
    assert one.tolist() != other.tolist()


def test_rare_flags_are_spread():
    flags = np.zeros((40, 3), dtype=bool)
    flags[:, 0] = True
    flags[:5, 1] = True
    flags[30:, 2] = True
    assigned = flag_folds(flags, 5, np.random.default_rng(0))
    assert sorted(assigned[:5]) == [0, 1, 2, 3, 4]
    assert np.bincount(assigned[30:]).tolist() == [2] * 5


def test_three_rows_of_flags_are_too_few():
    assert flag_folds(np.ones((3, 2), dtype=bool), 5, np.random.default_rng(0)) is None
    assert flag_folds(np.zeros((4, 2), dtype=bool), 5, np.random.default_rng(0)) is not None
