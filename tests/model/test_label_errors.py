from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.label_errors import (
    CLEAR,
    DUPLICATE,
    MODEL,
    PEOPLE,
    duplicate_doubt,
    model_doubt,
    off_diagonal,
    suspicious_labels,
)

SAID = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.1, 0.8, 0.1],
        [0.05, 0.9, 0.05],
        [0.2, 0.2, 0.6],
        [0.1, 0.1, 0.8],
        [0.7, 0.2, 0.1],
    ]
)
GIVEN = np.array([0, 1, 0, 2, 2, 0])
"""The third is labelled 0, but the model says 1."""


def test_doubt_is_the_probability_of_all_other_classes() -> None:
    wanted = [0.1, 0.2, 0.95, 0.4, 0.2, 0.3]
    assert model_doubt(SAID, GIVEN) == pytest.approx(wanted)


def test_confident_learning_counts_what_reaches_another_class_mean() -> None:
    # Means of the own class: 0.55, 0.8 and 0.7. Only the third reaches that of another class.
    assert off_diagonal(SAID, GIVEN).tolist() == [False, False, True, False, False, False]
    # Just below the mean of class 1 it is no longer counted.
    less = SAID.copy()
    less[2] = [0.11, 0.79, 0.1]
    assert not off_diagonal(less, GIVEN).any()


def test_a_class_without_labels_is_nobodys_error() -> None:
    said = np.array([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7], [0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])
    assert not off_diagonal(said[:2], np.array([0, 0])).any()
    # Class 2 has no label: how likely it would have to be is not known.
    assert off_diagonal(said, np.array([0, 0, 1, 0])).tolist() == [False] * 4


def test_near_duplicates_are_doubted_by_how_many_say_otherwise() -> None:
    groups = np.array([7, 7, 7, 7, 3, 5, 5])
    labels = np.array([0, 0, 0, 1, 2, 1, 1])
    assert duplicate_doubt(groups, labels) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0, 0, 0])
    flags = np.eye(3, dtype=bool)[labels]
    assert duplicate_doubt(groups, flags) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 0, 0, 0])


def test_one_list_with_the_worst_first() -> None:
    found = suspicious_labels(
        SAID, GIVEN, dissent=[0, 1 / 3, 0.25, 0, 0, 0], groups=[0, 1, 2, 3, 4, 1]
    )
    assert [(each.position, each.reasons) for each in found] == [
        (1, (PEOPLE, DUPLICATE)),
        (5, (DUPLICATE,)),
        (2, (MODEL, PEOPLE)),
    ]
    # 1 - 2/3 * 0, 1, and 1 - 0.05 * 0.75: what agrees with the model is not doubted for it.
    assert [each.doubt for each in found] == pytest.approx([1, 1, 0.9625])
    assert [each.likely for each in found] == [(1,), (0,), (1,)]
    assert [each.probability for each in found] == pytest.approx([0.8, 0.7, 0.9])


def test_without_a_model_the_others_are_heard() -> None:
    nothing = np.full((3, 2), np.nan)
    assert suspicious_labels(nothing, np.array([0, 1, 1])) == []
    (found,) = suspicious_labels(nothing, np.array([0, 1, 1]), dissent=[0, 0, 0.4])
    assert (found.position, found.likely, found.probability) == (2, (1,), None)
    assert found.doubt == pytest.approx(0.4)
    assert suspicious_labels(np.zeros((0, 2)), np.zeros(0, dtype=int)) == []


def test_rows_that_no_model_was_tested_on_do_not_change_the_others() -> None:
    said = np.insert(SAID, 2, np.nan, axis=0)
    (found,) = suspicious_labels(said, np.insert(GIVEN, 2, 1))
    (alone,) = suspicious_labels(SAID, GIVEN)
    assert (found.position, alone.position) == (3, 2)
    assert found.doubt == alone.doubt == pytest.approx(0.95)


def test_several_ticks_are_each_doubted() -> None:
    given = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [0, 0]], dtype=bool)
    said = np.array([[0.9, 0.1], [0.8, 0.95], [0.2, 0.9], [0.1, 0.8], [0.1, 0.7], [0.2, 0.1]])
    # Yes to the first: 0.9, 0.8 and 0.1, mean 0.6; the fifth reaches the mean of no, 0.83. Yes to
    # the second: mean 0.8, which the second reaches although it is not ticked.
    assert np.flatnonzero(off_diagonal(said, given, multiple=True)).tolist() == [1, 4]
    first, second = suspicious_labels(said, given, multiple=True)
    assert (first.position, first.likely, first.reasons) == (1, (0, 1), (MODEL,))
    assert (second.position, second.likely) == (4, (1,))
    assert (first.probability, second.probability) == pytest.approx((0.95, 0.9))
    # Self-confidences sorted downwards, each new one counts 0.8: 0.8 * 0.05 + 0.2 * 0.8.
    assert first.doubt == pytest.approx(1 - (0.8 * 0.05 + 0.2 * 0.8))
    assert second.doubt == pytest.approx(1 - (0.8 * 0.1 + 0.2 * 0.7))


def test_a_single_choice_that_may_be_ticked_is_doubted_by_its_confidence() -> None:
    given = np.array([[1], [1], [0], [0], [0]], dtype=bool)
    said = np.array([[0.9], [0.8], [0.1], [0.95], [0.3]])
    assert model_doubt(said, given, multiple=True) == pytest.approx([0.1, 0.2, 0.1, 0.95, 0.3])
    # Yes has the mean 0.85: only the fourth reaches it without the tick.
    (found,) = suspicious_labels(said, given, multiple=True)
    assert (found.position, found.likely, found.reasons) == (3, (0,), (MODEL,))
    assert (found.doubt, found.probability) == pytest.approx((0.95, 0.95))


@pytest.mark.parametrize("ticked", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_flags_that_are_all_alike_are_nobodys_error(k: int, ticked: bool) -> None:
    assert suspicious_labels(np.full((4, k), 0.3), np.full((4, k), ticked), multiple=True) == []


@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(2, 5))
def test_the_doubt_of_several_flags_is_cleanlabs(seed: int, n: int, k: int) -> None:
    from cleanlab.multilabel_classification import get_label_quality_scores

    generator = np.random.default_rng(seed)
    said, given = generator.random((n, k)), generator.random((n, k)) < 0.5
    given[0], given[1] = True, False
    ticked = [np.flatnonzero(row).tolist() for row in given]
    wanted = 1 - get_label_quality_scores(ticked, said)
    assert model_doubt(said, given, multiple=True) == pytest.approx(wanted)


def test_thresholds_say_which_ticks_are_likely() -> None:
    given = np.array([[1, 0], [0, 1]], dtype=bool)
    said = np.array([[0.9, 0.3], [0.2, 0.6]])
    found = suspicious_labels(
        said, given, multiple=True, dissent=[0.5, 0.5], thresholds=[0.5, 0.25]
    )
    assert [each.likely for each in found] == [(0, 1), (1,)]
    # The second is as given: of its ticks the least trusted one is wrong with 0.4.
    assert [each.probability for each in found] == pytest.approx([0.3, 0.4])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 4))
def test_the_order_is_that_of_the_doubt(seed: int, n: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    said = generator.dirichlet(np.ones(k), n)
    labels = generator.integers(0, k, n)
    groups = generator.integers(0, n, n)
    dissent = generator.choice([0, 0.25, 0.5], n)
    found = suspicious_labels(said, labels, dissent=dissent, groups=groups)
    doubts = [each.doubt for each in found]
    assert doubts == sorted(doubts, reverse=True)
    assert all(0 <= doubt <= 1 for doubt in doubts)
    # Whoever is not in the list has no reason to be, whoever is has each of its reasons.
    by_position = {each.position: each.reasons for each in found}
    conflicts = duplicate_doubt(groups, labels) > 0
    for i in range(n):
        reasons = by_position.get(i, ())
        assert (PEOPLE in reasons) == (dissent[i] > 0)
        assert (DUPLICATE in reasons) == conflicts[i]
    doubt = model_doubt(said, labels)
    flagged = [MODEL in by_position[i] if i in by_position else False for i in range(n)]
    other = said.argmax(axis=1) != labels
    assert not np.any(np.array(flagged, dtype=np.bool_) & ~other)
    clear = (other & (doubt >= CLEAR)).sum()
    assert sum(flagged) == max(min(off_diagonal(said, labels).sum(), other.sum()), clear)
    unflagged = np.invert(flagged) & other
    if any(flagged) and unflagged.any():
        assert doubt[flagged].min() >= doubt[unflagged].max()


def test_a_clear_doubt_counts_where_confident_learning_finds_no_error() -> None:
    # The mean confidence of class 1 is 0.98, which the wrong label's 0.96 does not reach.
    said = np.array([[0.98, 0.02]] * 3 + [[0.02, 0.98]] * 3 + [[0.04, 0.96], [0.06, 0.94]])
    given = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    assert not off_diagonal(said, given).any()
    [found] = suspicious_labels(said, given)
    assert (found.position, found.reasons, found.likely) == (6, (MODEL,), (1,))
    assert found.doubt == pytest.approx(0.96)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"probabilities has shape \(3,\)"):
        suspicious_labels(np.zeros(3), [0, 0, 0])
    with pytest.raises(ArgumentError, match=r"targets\[0\] is 3"):
        suspicious_labels(SAID, GIVEN + 3)
    with pytest.raises(ArgumentError, match=r"dissent has shape \(2,\)"):
        suspicious_labels(SAID, GIVEN, dissent=[0, 0])
    with pytest.raises(ArgumentError, match=r"dissent holds 0.0 to 2.0"):
        suspicious_labels(SAID, GIVEN, dissent=[0, 0, 0, 0, 0, 2])
    with pytest.raises(ArgumentError, match=r"groups has shape \(1,\)"):
        suspicious_labels(SAID, GIVEN, groups=[1])
    with pytest.raises(ArgumentError, match=r"each row must sum to 1"):
        suspicious_labels(SAID / 2, GIVEN)
    flags = np.eye(2, dtype=bool)
    with pytest.raises(ArgumentError, match=r"thresholds has shape \(3,\)"):
        suspicious_labels(np.eye(2), flags, multiple=True, thresholds=[0.5] * 3)
