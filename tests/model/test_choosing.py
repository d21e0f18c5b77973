from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from model.choosing import ERROR_RATE, should_choose
from model.payoff import FOLDS, REPEATS, Comparison, Stage, Verdict


def look(
    p: float, audited: int, *, stage: Stage = Stage.LAST, labels: int | None = None
) -> Comparison:
    """A comparison of the last picks with this one-sided p-value."""
    difference = 0.02 * float(stats.t.ppf(p, FOLDS * REPEATS - 1))
    compared = audited * 4 // 5
    return Comparison(
        stage=stage,
        verdict=Verdict.HURTS if p < 0.025 else Verdict.NO_DIFFERENCE,
        compared=compared,
        learned=(9 * audited if labels is None else labels) - compared,
        audited=audited,
        queue=0.7,
        random=0.7 - difference,
        difference=difference,
        low=difference - 0.04,
        high=difference + 0.04,
        error=0.02,
    )


def test_without_a_look_it_chooses():
    choice = should_choose([], 500)
    assert (choice.choose, choice.looks) == (True, 0)
    assert choice.sentence == "The queue chooses: nothing shows that it does harm."


def test_the_p_value_of_a_look_is_its_own():
    assert look(0.01, 60).hurt_probability == pytest.approx(0.01)


@pytest.mark.parametrize(("k", "level"), [(1, 1 / 40), (2, 1 / 120), (3, 1 / 240)])
def test_the_level_falls_with_every_look(k: int, level: float):
    sizes = (60, 90, 135)
    before, audited = [look(0.5, size) for size in sizes[: k - 1]], sizes[k - 1]
    held = should_choose([*before, look(level * 1.05, audited)], 9 * audited)
    switched = should_choose([*before, look(level * 0.95, audited)], 9 * audited)
    assert (held.choose, held.looks) == (True, k)
    assert (switched.choose, switched.looks) == (False, k)


def test_the_levels_of_all_looks_sum_to_the_error_rate():
    assert sum(ERROR_RATE / (k * (k + 1)) for k in range(1, 100_000)) == pytest.approx(
        ERROR_RATE, rel=1e-4
    )


def test_a_look_counts_when_the_audit_set_has_grown_by_half():
    often = [look(0.5, 60), look(0.0001, 89)]
    assert should_choose(often, 801).choose
    assert should_choose(often, 801).looks == 1
    assert not should_choose([*often, look(0.0001, 90)], 810).choose


def test_only_the_last_picks_decide_and_only_what_can_be_told():
    unknown = Comparison(Stage.LAST, Verdict.CANNOT_TELL, 8, 0, 10, missing=40)
    history = [unknown, look(0.0001, 60, stage=Stage.FIRST)]
    assert should_choose(history, 540) == should_choose([], 540)


def test_it_chooses_again_when_the_labels_have_doubled():
    history = [look(0.001, 60)]
    rests = should_choose(history, 1079)
    assert not rests.choose
    assert rests.sentence.startswith(
        "The order is random until there are 1,080 labels. Choosing does harm: with the last 48 "
    )
    again = should_choose(history, 1080)
    assert again.choose
    assert again.sentence == "The queue chooses again, after 1,080 labels."
    # What was compared in the random order does not count, what came after the return does.
    history.append(look(0.0001, 100, labels=900))
    assert should_choose(history, 1080).choose
    history.append(look(0.5, 130, labels=1170))
    assert should_choose(history, 1170).sentence.startswith("The queue chooses: nothing")
    history.append(look(0.001, 200, labels=1800))
    assert not should_choose(history, 3599).choose
    assert should_choose(history, 3600).choose


@given(
    st.lists(st.tuples(st.floats(1e-6, 1), st.integers(50, 2000)), max_size=12),
    st.integers(0, 40_000),
)
def test_any_history_is_read_the_same_way(found: list[tuple[float, int]], labels: int):
    history = [look(p, audited) for p, audited in sorted(found, key=lambda x: x[1])]
    choice = should_choose(history, labels)
    assert choice == should_choose(history, labels)
    assert choice.looks <= len(history)
    if all(p > ERROR_RATE / 2 for p, _ in found):
        assert choice.choose
