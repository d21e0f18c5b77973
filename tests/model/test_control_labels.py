from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.control_labels import ControlLabels, class_weights, row_weights, validation_rows
from model.errors import ArgumentError


def single(targets: list[int], classes: int = 3) -> ControlLabels:
    """-1 stands for no label."""
    array = np.array(targets)
    names = tuple("abcdefgh"[:classes])
    return ControlLabels("kind", names, False, np.maximum(array, 0), array >= 0)


def flags(rows: list[list[int]]) -> ControlLabels:
    array = np.array(rows, dtype=bool)
    known = np.ones(len(array), dtype=bool)
    return ControlLabels("marks", tuple("abcdefgh"[: array.shape[1]]), True, array, known)


EVERY = np.ones(6, dtype=bool)


def test_flags_are_one_hot_where_a_label_is_known() -> None:
    found = single([0, 2, -1]).flags()
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_class_weights_by_hand() -> None:
    # Six labels of three classes: n / (k n_c) = 6 / (3 * 4), 6 / (3 * 1), 6 / (3 * 1).
    part = single([0, 0, 0, 0, 1, 2])
    np.testing.assert_allclose(class_weights(part, EVERY), [0.5, 2.0, 2.0])
    # Only two classes are left among these rows: 5 / (2 * 4), 5 / (2 * 1).
    rows = np.array([True] * 5 + [False])
    np.testing.assert_allclose(class_weights(part, rows), [0.625, 2.5, 0.0])


def test_weights_of_flags_are_no_against_yes_and_bounded() -> None:
    part = flags([[1, 0]] * 2 + [[0, 0]] * 4)
    np.testing.assert_allclose(class_weights(part, EVERY), [2.0, 0.0])
    many = flags([[1]] + [[0]] * 99)
    assert class_weights(many, np.ones(100, dtype=bool)).tolist() == [10.0]


def test_a_balanced_sampler_takes_classes_alike() -> None:
    part = single([0, 0, 0, 0, 1, 2])
    weights = row_weights([part], EVERY)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, [1 / 12] * 4 + [1 / 3] * 2)
    some = row_weights([part], np.array([True, True, False, False, True, False]))
    np.testing.assert_allclose(some, [0.25, 0.25, 0, 0, 0.5, 0])


def test_a_row_without_a_class_is_still_sampled() -> None:
    weights = row_weights([flags([[1], [1], [0], [0], [0], [0]])], EVERY)
    assert (weights > 0).all()


def test_learnable_classes() -> None:
    rows = np.array([True, True, True, False])
    assert single([0, 1, -1, 2]).learnable(rows).tolist() == [True, True, False]
    found = flags([[1, 0, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0]]).learnable(rows)
    assert found.tolist() == [False, False, True]


@given(
    st.lists(st.integers(-1, 3), min_size=1, max_size=60),
    st.sampled_from([0.1, 0.15, 0.25, 0.5]),
    st.integers(0, 5),
)
def test_validation_rows_leave_a_row_of_every_class(
    targets: list[int], share: float, seed: int
) -> None:
    part = single(targets, 4)
    chosen = validation_rows([part], share, np.random.default_rng(seed))
    again = validation_rows([part], share, np.random.default_rng(seed))
    assert (chosen == again).all()
    assert part.learnable(~chosen).tolist() == part.learnable(np.ones_like(chosen)).tolist()
    assert chosen.sum() <= np.ceil(len(targets) / round(1 / share))


def test_validation_rows_have_the_mix_of_the_others() -> None:
    part = single([0] * 80 + [1] * 20, 2)
    chosen = validation_rows([part], 0.1, np.random.default_rng(0))
    assert (int(chosen[:80].sum()), int(chosen[80:].sum())) == (8, 2)


@pytest.mark.parametrize(
    ("targets", "known", "message"),
    [
        (np.zeros(3, dtype=int), np.ones(3), "known has shape"),
        (np.zeros(2, dtype=int), np.ones(3, dtype=bool), r"targets has shape \(2,\); \(3,\)"),
        (np.full(3, 9), np.ones(3, dtype=bool), r"targets\[0\] is 9"),
    ],
)
def test_labels_that_do_not_fit(targets: object, known: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ControlLabels("kind", ("a", "b"), False, targets, known)  # type: ignore[arg-type]
