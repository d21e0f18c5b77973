from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ArgumentError
from model.gate import decide


def flags(right: int, n: int) -> np.ndarray:
    return np.arange(n) < right


def test_the_first_version_is_kept():
    decision = decide(None, flags(3, 20), margin=0.02)
    assert decision.promote
    assert decision.reason == "Kept: there is no version to compare it with."
    assert (decision.n, decision.champion_accuracy, decision.challenger_accuracy) == (
        20,
        None,
        0.15,
    )


def test_the_first_version_is_kept_without_any_held_out_label():
    decision = decide(None, [], margin=0.02)
    assert decision.promote
    assert decision.challenger_accuracy is None


def test_too_few_labels_cannot_refuse():
    decision = decide(flags(9, 9), flags(0, 9), margin=0.0)
    assert decision.promote
    assert decision.reason == "Kept: too few held-out labels (9 of 10) to compare."
    assert (decision.lost, decision.challenger_accuracy) == (9, 0.0)


def test_no_held_out_label_at_all():
    decision = decide([], [], margin=0.02)
    assert decision.promote
    assert decision.reason == "Kept: too few held-out labels (0 of 10) to compare."
    assert decision.champion_accuracy is None


def test_a_worse_one_is_refused_with_its_counts():
    champion = np.array([True] * 40 + [False] * 10)
    challenger = np.array([True] * 35 + [False] * 5 + [True] * 2 + [False] * 8)
    decision = decide(champion, challenger, margin=0.02)
    assert not decision.promote
    assert (decision.gained, decision.lost, decision.n) == (2, 5, 50)
    assert decision.champion_accuracy == pytest.approx(0.8)
    assert decision.challenger_accuracy == pytest.approx(0.74)
    assert decision.reason == (
        "Refused: 37 of 50 held-out images right (74.0%) against 40 (80.0%) before, "
        "2 gained and 5 lost, beyond the margin of 2.0%."
    )


def test_the_margin_itself_is_allowed():
    # 0.02 * 50 is one image, which the product in binary must not lose.
    assert decide(flags(40, 50), flags(39, 50), margin=0.02).promote
    assert not decide(flags(40, 50), flags(38, 50), margin=0.02).promote
    assert decide(flags(90, 100), flags(83, 100), margin=0.07).promote
    assert not decide(flags(90, 100), flags(89, 100), margin=0.0).promote
    assert decide(flags(90, 100), flags(90, 100), margin=0.0).promote


def test_fewer_right_but_more_sure_of_the_truth_is_kept():
    champion, challenger = flags(14, 15), flags(13, 15)
    unsure, sure = np.full(15, 0.6), np.full(15, 0.4)
    kept = decide(champion, challenger, margin=0.02, champion_losses=unsure, challenger_losses=sure)
    assert kept.promote
    assert kept.reason == (
        "Kept: 13 of 15 held-out images right (86.7%) against 14 (93.3%) before, 0 gained and "
        "1 lost, beyond the margin of 2.0%, but more sure of the truth: "
        "log loss 0.400 against 0.600."
    )
    for losses in (sure, unsure):
        refused = decide(
            champion, challenger, margin=0.02, champion_losses=losses, challenger_losses=unsure
        )
        assert not refused.promote
        assert "and less sure of the truth" in refused.reason


def test_losses_do_not_refuse_what_is_right_as_often():
    one, two = np.full(15, 0.1), np.full(15, 2.0)
    assert decide(
        flags(9, 15), flags(9, 15), margin=0.0, champion_losses=one, challenger_losses=two
    ).promote


def test_losses_must_fit():
    with pytest.raises(ArgumentError, match="champion_losses has shape"):
        decide(
            flags(15, 15), flags(9, 15), margin=0.0, champion_losses=[1.0], challenger_losses=[1.0]
        )


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 100),
)
def test_equals_counting(pairs: list[tuple[bool, bool]], percent: int):
    champion, challenger = (np.array(side) for side in zip(*pairs, strict=True))
    decision = decide(champion, challenger, margin=percent / 100)
    gained = sum(after and not before for before, after in pairs)
    lost = sum(before and not after for before, after in pairs)
    worse = 100 * (lost - gained) > percent * len(pairs)
    assert (decision.gained, decision.lost) == (gained, lost)
    assert decision.promote == (len(pairs) < 10 or not worse)


@pytest.mark.parametrize(
    ("champion", "challenger", "options", "said"),
    [
        (flags(1, 3), flags(1, 2), {}, "champion_correct has 3 values and challenger_correct 2"),
        (flags(1, 2), [0.5, 1.0], {}, "challenger_correct has shape"),
        (flags(1, 2), [[True]], {}, "challenger_correct has shape"),
        (flags(1, 2), flags(1, 2), {"margin": -0.1}, "margin is -0.1"),
        (flags(1, 2), flags(1, 2), {"minimum": 0}, "minimum is 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    champion: object, challenger: object, options: dict[str, float], said: str
):
    with pytest.raises(ArgumentError, match=said):
        decide(champion, challenger, **({"margin": 0.02} | options))
