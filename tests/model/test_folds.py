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


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.booleans()), min_size=1),
    st.integers(0, 9),
)
def test_groups_share_a_fold_and_honest_rows_can_be_tested(
    rows: list[tuple[int, int, bool]], seed: int
):
    targets, groups, honest = (np.array(column) for column in zip(*rows, strict=True))
    assigned = class_folds(targets, 5, np.random.default_rng(seed), groups, honest)
    if assigned is None:
        return
    for group in np.unique(groups):
        inside = assigned[groups == group]
        assert np.unique(inside).size == 1
        assert honest[groups == group].any() or inside[0] == NEVER_TESTED
    tested = honest & (assigned >= 0)
    assert np.unique(targets[tested]).size >= 2
    assert np.array_equal(np.unique(assigned[assigned >= 0]), np.arange(assigned.max() + 1))
    for row in np.flatnonzero(tested):
        assert targets[row] in targets[assigned != assigned[row]]


@given(labels, st.integers(0, 9))
def test_copies_of_rows_change_no_fold(targets: np.ndarray, seed: int):
    alone = class_folds(targets, 5, np.random.default_rng(seed))
    twice = np.concatenate([targets, targets])
    groups = np.tile(np.arange(len(targets)), 2) + 7
    original = np.arange(len(twice)) < len(targets)
    copied = class_folds(twice, 5, np.random.default_rng(seed), groups, original)
    if alone is None:
        assert copied is None
    else:
        assert copied is not None
        assert copied.tolist() == [*alone, *alone]


def test_a_class_that_only_other_rows_have_is_still_learned_from():
    # Class 2 has one honest row and one that every model learns: the honest one can be tested.
    targets = np.array([0, 0, 1, 1, 2, 2])
    honest = np.array([True, True, True, True, True, False])
    assigned = class_folds(targets, 5, np.random.default_rng(0), None, honest)
    assert assigned is not None
    assert assigned[5] == NEVER_TESTED
    assert (assigned[:5] >= 0).all()


def test_mixed_groups_that_hold_all_of_a_class_are_not_tested():
    # Two groups with classes 0 and 1 led by 0 cannot keep class 1 out of any one fold of two.
    targets = np.array([0, 1, 0, 1, 2, 2])
    groups = np.array([0, 0, 0, 0, 1, 2])
    assert class_folds(targets, 5, np.random.default_rng(0), groups) is None
    assert (
        class_folds(targets, 5, np.random.default_rng(0), np.array([0, 0, 1, 1, 2, 3])).min() >= 0
    )


def test_groups_of_flags_share_a_fold():
    flags = np.tile(np.eye(3, dtype=bool), (4, 1))
    groups, honest = np.repeat(np.arange(6), 2), np.arange(12) % 2 == 0
    honest[:2] = False
    assigned = flag_folds(flags, 5, np.random.default_rng(0), groups, honest)
    assert assigned is not None
    assert assigned[:2].tolist() == [NEVER_TESTED] * 2
    assert sorted(assigned[2::2]) == [0, 1, 2, 3, 4]
    assert assigned[2::2].tolist() == assigned[3::2].tolist()
    honest[4:6] = honest[6:8] = False
    assert flag_folds(flags, 5, np.random.default_rng(0), groups, honest) is None
