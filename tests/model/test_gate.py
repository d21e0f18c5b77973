from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from model.errors import ArgumentError
from model.gate import (
    LISTED,
    Evidence,
    GateDecision,
    Graded,
    Shown,
    decide,
    keep_uncompared,
    paired_score,
)


def graded(right: list[bool] | np.ndarray, loss: float | np.ndarray = 0.5) -> Graded:
    flags = np.array(right, dtype=bool)
    return Graded(flags, np.broadcast_to(np.asarray(loss, dtype=float), flags.shape).copy())


def pairs(gained: int, lost: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """What the champion and the challenger get right."""
    champion = np.repeat([False, True, True, False], [gained, lost, both, neither])
    challenger = np.repeat([True, False, True, False], [gained, lost, both, neither])
    return champion, challenger


def judged(
    gained: int,
    lost: int,
    n: int,
    *,
    margin: float = 0.02,
    losses: tuple[float, float] = (0.5, 0.5),
    evidence: Evidence = Evidence.HELD_OUT,
) -> GateDecision:
    """The decision on n labels of which 3 in 4 of those that do not flip are right."""
    rest = n - gained - lost
    champion, challenger = pairs(gained, lost, rest * 3 // 4, rest - rest * 3 // 4)
    return decide(
        graded(champion, losses[0]),
        graded(challenger, losses[1]),
        margin=margin,
        evidence=evidence,
    )


counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300))
margins = st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.2])


def test_the_score_by_hand():
    # Nothing flips: the likeliest share of losses is the margin m itself, with variance
    # n m (1 - m), and the score is n m over its root.
    assert paired_score(0, 0, 100, 0.02) == pytest.approx(2 / np.sqrt(100 * 0.02 * 0.98))
    # Without a margin it is McNemar's: (gained - lost) / sqrt(gained + lost).
    assert paired_score(7, 2, 50, 0.0) == pytest.approx(5 / 3)
    assert paired_score(0, 0, 50, 0.0) == 0.0
    assert paired_score(0, 0, 0, 0.02) == 0.0
    # All that can be lost is lost, which a margin of 1 allows.
    assert paired_score(0, 9, 9, 1.0) == 0.0
    assert paired_score(0, 8, 9, 1.0) > 0


@settings(deadline=None)
@given(counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_the_score_is_that_of_the_likeliest_losses(
    found: tuple[int, int, int], margin: float
) -> None:
    gained, lost, rest = found
    n = gained + lost + rest
    assume(n > 0)

    def unlikeliness(share: float) -> float:
        logs = [(gained, share - margin), (lost, share), (rest, 1 + margin - 2 * share)]
        return -sum(times * log(p) for times, p in logs if times)

    best = minimize_scalar(
        unlikeliness,
        bounds=(margin + 1e-12, (1 + margin) / 2 - 1e-12),
        method="bounded",
        options={"xatol": 1e-12},
    )
    variance = n * (2 * best.x - margin * (1 + margin))
    expected = (gained - lost + n * margin) / np.sqrt(variance)
    assert paired_score(gained, lost, n, margin) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_worse_one_is_refused_with_its_counts():
    champion, challenger = pairs(2, 9, 35, 14)
    decision = decide(graded(champion), graded(challenger, 0.1), margin=0.02)
    assert not decision.promote
    assert (decision.gained, decision.lost, decision.n) == (2, 9, 60)
    assert (decision.shown, decision.evidence) == (Shown.WORSE, Evidence.HELD_OUT)
    assert decision.reason == (
        "Refused: 37 of 60 held-out labels right (61.7%) against 44 (73.3%) before, "
        "2 gained and 9 lost; it is worse by more than 2 points."
    )


def test_what_is_shown_to_be_good_enough_is_kept_whatever_its_loss():
    decision = judged(6, 3, 200, losses=(0.1, 2.0))
    assert decision.promote
    assert decision.shown is Shown.NOT_WORSE
    assert decision.reason == (
        "Kept: 149 of 200 held-out labels right (74.5%) against 146 (73.0%) before, "
        "6 gained and 3 lost; it is not worse by more than 2 points."
    )


def test_in_between_a_log_loss_that_is_not_higher_is_kept():
    kept = judged(2, 3, 40, losses=(0.6, 0.4))
    assert kept.promote
    assert kept.shown is Shown.NOTHING
    assert kept.reason.endswith(
        "too few to see a loss of 2 points by counting, and it is as sure of the truth "
        "(log loss 0.400 against 0.600)."
    )
    assert judged(2, 3, 40, losses=(0.4, 0.4)).promote
    refused = judged(2, 3, 40, losses=(0.4, 0.401))
    assert (refused.promote, refused.shown) == (False, Shown.NOTHING)
    assert refused.reason == (
        "Refused: 28 of 40 held-out labels right (70.0%) against 29 (72.5%) before, "
        "2 gained and 3 lost; too few to see a loss of 2 points by counting, "
        "and with fewer right it is less sure of the truth (log loss 0.401 against 0.400)."
    )


def test_in_between_with_no_fewer_right_it_may_be_less_sure_by_the_margin():
    # A loss of log 2 is a probability of 50% for the truth, and 2 points less is 48%.
    before, limit = log(2), -log(0.48)
    for gained in (3, 4):
        assert judged(gained, 3, 60, losses=(before, limit - 1e-6)).promote
        refused = judged(gained, 3, 60, losses=(before, limit + 1e-6))
        assert (refused.promote, refused.shown) == (False, Shown.NOTHING)
    assert judged(3, 3, 60, losses=(before, 0.70)).reason == (
        "Kept: 43 of 60 held-out labels right (71.7%) against 43 (71.7%) before, "
        "3 gained and 3 lost; too few to see a loss of 2 points by counting, and with no fewer "
        "right it is less sure of the truth by at most that (log loss 0.700 against 0.693)."
    )
    assert judged(3, 3, 60, losses=(before, 1.2)).reason.endswith(
        "and with no fewer right it is less sure of the truth by more than that "
        "(log loss 1.200 against 0.693)."
    )
    # Without a margin nothing of it may be lost.
    assert not judged(3, 3, 60, margin=0.0, losses=(before, before + 1e-6)).promote
    assert judged(3, 3, 60, margin=0.0, losses=(before, before)).promote


@settings(deadline=None)
@given(counts, margins, st.floats(0.01, 3), st.floats(0.01, 3))
def test_the_reason_says_what_decided(
    found: tuple[int, int, int], margin: float, before: float, after: float
) -> None:
    gained, lost, rest = found
    n = gained + lost + rest
    assume(n >= 30)
    # A mean is a constant loss only up to rounding.
    assume(abs(after - before) > 1e-9)
    assume(abs(exp(-before) - exp(-after) - margin) > 1e-9)
    decision = judged(gained, lost, n, margin=margin, losses=(before, after))
    within = exp(-before) - exp(-after) <= margin
    if decision.shown is Shown.NOT_WORSE:
        promote, said = True, "it is not worse by more than"
    elif decision.shown is Shown.WORSE:
        promote, said = False, "it is worse by more than"
    elif after < before:
        promote, said = True, "it is as sure of the truth ("
    elif gained < lost:
        promote, said = False, "with fewer right it is less sure of the truth ("
    else:
        by = "at most" if within else "more than"
        promote, said = within, f"with no fewer right it is less sure of the truth by {by} that ("
    assert decision.promote is promote
    assert decision.reason.startswith("Kept: " if promote else "Refused: ")
    assert said in decision.reason


def test_weak_evidence_refuses_only_what_it_shows():
    for evidence, n in ((Evidence.HELD_OUT, 29), (Evidence.CROSS_VALIDATED, 29)):
        assert judged(2, 3, n, losses=(0.4, 0.6), evidence=evidence).promote
        assert not judged(1, 7, n, losses=(0.4, 0.6), evidence=evidence).promote
    weak = judged(2, 3, 40, losses=(0.4, 0.6), evidence=Evidence.CROSS_VALIDATED)
    assert weak.reason == (
        "Kept: 28 of 40 labels new to both right (70.0%) against 29 (72.5%) before, "
        "2 gained and 3 lost; too few to see a loss of 2 points, "
        "as there are not 30 held-out labels yet."
    )


def test_too_few_labels_cannot_refuse():
    decision = judged(0, 9, 9, losses=(0.1, 3.0))
    assert decision.promote
    assert decision.reason == "Kept: too few held-out labels (9 of 10) to compare."
    assert (decision.lost, decision.score) == (9, None)
    none = decide(graded([]), graded([]), margin=0.02)
    assert (none.promote, none.evidence, none.champion_accuracy) == (True, Evidence.NONE, None)


def test_without_a_rival_it_is_kept():
    decision = keep_uncompared(graded([True, False, True]), "it is the first version")
    assert (decision.promote, decision.reason) == (True, "Kept: it is the first version.")
    assert (decision.n, decision.champion_accuracy) == (3, None)
    assert decision.challenger_accuracy == pytest.approx(2 / 3)
    assert keep_uncompared(graded([]), "it is the first").challenger_accuracy is None


def test_images_that_flip_are_named():
    champion, challenger = pairs(2, 3, 10, 5)
    decision = decide(
        graded(champion), graded(challenger), margin=0.02, ids=np.arange(100, 120)[::-1]
    )
    assert (decision.gained_ids, decision.lost_ids) == ([119, 118], [117, 116, 115])
    many = judged(LISTED + 5, 0, 400)
    assert (many.gained, len(many.gained_ids)) == (LISTED + 5, LISTED)


@settings(deadline=None)
@given(counts, margins, st.booleans())
def test_an_identical_challenger_is_never_refused(
    found: tuple[int, int, int], margin: float, weak: bool
) -> None:
    right = np.repeat([True, False], [found[0] + found[2], found[1]])
    model = graded(right, np.linspace(0, 3, right.size))
    evidence = Evidence.CROSS_VALIDATED if weak else Evidence.HELD_OUT
    assert decide(model, model, margin=margin, evidence=evidence).promote


@settings(deadline=None)
@given(counts)
def test_without_a_margin_the_two_sides_mirror_each_other(found: tuple[int, int, int]) -> None:
    gained, lost, rest = found
    n = gained + lost + rest
    forth, back = paired_score(gained, lost, n, 0.0), paired_score(lost, gained, n, 0.0)
    assert forth == pytest.approx(-back)
    one, other = (judged(*flips, n, margin=0.0) for flips in ((gained, lost), (lost, gained)))
    assert (one.shown is Shown.WORSE) == (other.shown is Shown.NOT_WORSE)
    # Of two that differ, at least one may replace the other.
    assert one.promote or other.promote


@settings(deadline=None)
@given(counts, margins, st.sampled_from([(0.5, 0.4), (0.5, 0.5), (0.4, 0.5)]))
def test_gaining_more_or_losing_less_never_turns_it_away(
    found: tuple[int, int, int], margin: float, losses: tuple[float, float]
) -> None:
    gained, lost, rest = found
    n = gained + lost + rest + 1
    decision = judged(gained, lost, n, margin=margin, losses=losses)
    more = judged(gained + 1, lost, n, margin=margin, losses=losses)
    assert decision.score is None or more.score >= decision.score - 1e-9
    assert more.promote >= decision.promote
    if lost:
        less = judged(gained, lost - 1, n, margin=margin, losses=losses)
        assert less.score is None or less.score >= decision.score - 1e-9
        assert less.promote >= decision.promote


@settings(deadline=None)
@given(counts, st.sampled_from([(0.5, 0.4), (0.4, 0.5)]))
def test_a_wider_margin_or_a_lower_loss_never_turns_it_away(
    found: tuple[int, int, int], losses: tuple[float, float]
) -> None:
    gained, lost, rest = found
    n = gained + lost + rest
    promoted = [judged(gained, lost, n, margin=m, losses=losses).promote for m in (0.0, 0.05, 0.5)]
    assert promoted == sorted(promoted)
    better = judged(gained, lost, n, losses=(losses[0], 0.01))
    assert better.promote >= judged(gained, lost, n, losses=losses).promote


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.randoms())
def test_the_order_of_the_labels_does_not_matter(
    found: list[tuple[bool, bool]], random: object
) -> None:
    champion, challenger = (np.array(side) for side in zip(*found, strict=True))
    decision = decide(graded(champion), graded(challenger), margin=0.02)
    assert decision.gained == sum(after and not before for before, after in found)
    assert decision.lost == sum(before and not after for before, after in found)
    random.shuffle(found)  # type: ignore[attr-defined]
    mixed = [np.array(side) for side in zip(*found, strict=True)]
    again = decide(graded(mixed[0]), graded(mixed[1]), margin=0.02)
    assert (again.promote, again.reason) == (decision.promote, decision.reason)


def test_the_test_errs_as_often_as_it_says():
    """At the very margin, of 4,000 comparisons a fifth is called good enough, a fifth worse."""
    random = np.random.default_rng(11)
    for n in (100, 400, 1000):
        gained, lost, _ = random.multinomial(n, [0.05, 0.07, 0.88], size=4000).T
        scores = np.array(
            [paired_score(int(g), int(v), n, 0.02) for g, v in zip(gained, lost, strict=True)]
        )
        assert (scores >= 0.8416).mean() == pytest.approx(0.2, abs=0.04)
        assert (scores <= -0.8416).mean() == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    ("champion", "challenger", "options", "said"),
    [
        (graded([True] * 3), graded([True] * 2), {}, "graded on 3 labels, the challenger on 2"),
        (graded([True]), graded([True]), {"ids": [1, 2]}, "ids has shape"),
        (graded([True]), graded([True]), {"margin": -0.1}, "margin is -0.1"),
        (graded([True]), graded([True]), {"minimum": 0}, "minimum is 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    champion: Graded, challenger: Graded, options: dict[str, float], said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        decide(champion, challenger, **({"margin": 0.02} | options))


def test_only_whole_grades_are_taken():
    with pytest.raises(ArgumentError, match="right has shape"):
        Graded(np.array([0.5]), np.array([0.5]))
    with pytest.raises(ArgumentError, match="loss has shape"):
        Graded(np.array([True]), np.array([np.nan]))
