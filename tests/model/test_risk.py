"""The promise: by hand, against brute force, and over many draws of the audit set."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from model.errors import ArgumentError
from model.risk import choose_per_class, choose_threshold


def at_most_drawn(errors: int, total: int, wrong: int, drawn: int) -> float:
    """P(Hypergeometric(total, wrong, drawn) <= errors), term by term."""
    ways = sum(comb(wrong, k) * comb(total - wrong, drawn - k) for k in range(errors + 1))
    return ways / comb(total, drawn)


def brute(audit: list[float], right: list[bool], others: list[float], share: float) -> float | None:
    """The tests of the module one after the other, by their definitions."""
    everyone = sorted(audit + others, reverse=True)
    total, alpha = len(everyone), 0.05
    places = [-(-i * total // 50) - 1 for i in range(1, 51)]
    thresholds = sorted({everyone[place] for place in places}, reverse=True)
    proofs, needs = [], []
    for t in thresholds:
        above = [c for c in everyone if c >= t]
        expected = len(above) * len(audit) / total
        errors = sum(1 - c for c in above) / len(above) * expected
        grid = (np.arange(200_000) + 0.5) / 200_000
        # 1 - I_x(e + 1, n - e), a binomial tail for n and e that are no whole numbers.
        density = grid**errors * (1 - grid) ** (expected - errors - 1)
        proofs.append(density[grid > share].sum() / density.sum())
        needs.append(int(share * max(len(above) - expected - 2 * expected**0.5, 0) + 1e-9) + 1)
    best, found = int(np.argmin(proofs)), None
    for t, wrong in list(zip(thresholds, needs, strict=True))[best:]:
        said = [ok for c, ok in zip(audit, right, strict=True) if c >= t]
        left = sum(c >= t for c in others)
        p = at_most_drawn(said.count(False), len(said) + left, wrong, len(said))
        if p > alpha or wrong - 1 > share * left + 1e-9:
            break
        found = t
    return found


@pytest.mark.parametrize("seed", range(12))
def test_like_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(10, 60))
    confident = random.beta(9, 1 + seed % 3, n + 150).round(2)
    right = random.random(n) < np.sqrt(confident[:n])
    share = float(random.choice([0.1, 0.2, 0.3]))
    found = choose_threshold(confident[:n], right, confident[n:], max_error=share)
    wanted = brute(confident[:n].tolist(), right.tolist(), confident[n:].tolist(), share)
    assert found.threshold == wanted
    if wanted is not None:
        assert found.accepted == int((confident[n:] >= wanted).sum())
        assert found.errors == int((~right[confident[:n] >= wanted]).sum())


def test_clean_labels_of_a_large_pool() -> None:
    """149 clean labels bound 2%; a pool of 1,000 takes a few more."""
    for labels in (140, 148, 149, 155):
        found = choose_threshold(
            np.full(labels, 0.999), np.ones(labels, bool), np.full(100_000, 0.999), max_error=0.02
        )
        assert (found.threshold is not None) is (labels >= 149)
        assert found.bound == pytest.approx(1 - 0.05 ** (1 / labels))
    assert found.accepted == 100_000
    few = choose_threshold([0.999] * 149, [True] * 149, [0.999] * 1000, max_error=0.02)
    assert few.threshold is None


def test_a_refusal_says_how_many_more_it_takes() -> None:
    def ask(labels: int) -> tuple[float | None, int | None]:
        found = choose_threshold(
            np.full(labels, 0.999), np.ones(labels, bool), np.full(100_000, 0.999), max_error=0.02
        )
        return found.threshold, found.more

    for labels in (1, 50, 120):
        threshold, more = ask(labels)
        assert threshold is None
        assert more is not None
        assert ask(labels + more - 2)[0] is None
        assert ask(labels + more + 1)[0] is not None


def test_more_labels_count_those_that_are_not_sure() -> None:
    """Only half of the audit images are sure, so it takes twice as many."""
    sure, unsure = np.full(50, 0.999), np.full(50, 0.3)
    found = choose_threshold(
        np.append(sure, unsure),
        np.append(np.ones(50, bool), np.zeros(50, bool)),
        np.append(np.full(10_000, 0.999), np.full(10_000, 0.3)),
        max_error=0.02,
    )
    assert (found.threshold, found.labels, found.errors) == (None, 50, 0)
    assert found.more is not None
    assert 198 <= found.more <= 206
    assert f"It takes {found.more} more audit labels" in found.reason


def test_nothing_to_accept_and_nothing_to_stand_on() -> None:
    none = choose_threshold([0.9] * 500, [True] * 500, [], max_error=0.02)
    assert (none.threshold, none.more) == (None, None)
    empty = choose_threshold([], [], [0.99] * 100_000, max_error=0.02)
    assert (empty.threshold, empty.labels, empty.bound) == (None, 0, 1)
    assert empty.more is not None
    assert 148 <= empty.more <= 151


@pytest.mark.parametrize("mistaken", [0.0, 0.02])
@pytest.mark.parametrize("share", [0.02, 0.05])
def test_the_promise_over_many_draws(share: float, mistaken: float) -> None:
    """One lot of images, of which 300 draws of an audit set are made; also a model that is surer
    than it may be. More is wrong in at most 5% of them, give or take chance."""
    random = np.random.default_rng(7)
    confident = 1 - random.beta(0.35, 3, 2500)
    right = random.random(2500) < confident - mistaken
    broken = accepted = 0
    for _ in range(300):
        order = random.permutation(2500)
        audit, others = order[:500], order[500:]
        found = choose_threshold(confident[audit], right[audit], confident[others], max_error=share)
        if found.threshold is not None:
            taken = others[confident[others] >= found.threshold]
            assert taken.size == found.accepted
            broken += int((~right[taken]).mean() > share)
            accepted += 1
    assert broken <= 15 + 2 * 4  # two standard deviations
    # The mistaken model is wrong on 2% even of what it is surest of.
    assert accepted >= 60 if mistaken < share else accepted <= 10


@pytest.mark.parametrize("mistaken", [0.0, 0.07])
def test_a_second_promise_over_many_draws(mistaken: float) -> None:
    """Of what a first promise leaves over, audit images and others alike, a second one accepts too
    much no more often; also where the model is surer of the rest than it may be."""
    random = np.random.default_rng(3)
    confident = np.where(random.random(6000) < 0.7, 0.9995, random.uniform(0.92, 0.97, 6000))
    confident -= random.uniform(0, 0.0004, 6000)
    right = random.random(6000) < confident - np.where(confident < 0.99, mistaken, 0)
    given = broken = 0
    for _ in range(200):
        order = random.permutation(6000)
        audit, others = order[:900], order[900:]
        first = choose_threshold(confident[audit], right[audit], confident[others], max_error=0.01)
        if first.threshold is None:
            continue
        audit, others = (rows[confident[rows] < first.threshold] for rows in (audit, others))
        second = choose_threshold(confident[audit], right[audit], confident[others], max_error=0.12)
        if second.threshold is not None:
            taken = others[confident[others] >= second.threshold]
            broken += int((~right[taken]).mean() > 0.12)
            given += 1
    assert broken <= 10 + 2 * 3  # two standard deviations
    assert given <= 10 if mistaken else given >= 60


def test_each_class_has_a_threshold_of_its_own() -> None:
    """Class 0 is right always, class 1 hardly, and nothing is known of class 2."""
    n = 400
    predicted, right = np.repeat([0, 1], n), np.repeat([True, False], n)
    found = choose_per_class(
        np.full(2 * n, 0.99), predicted, right, np.full(9000, 0.99), np.repeat([0, 1, 2], 3000),
        classes=3, max_error=0.05,
    )  # fmt: skip
    assert [p.accepted for p in found] == [3000, 0, 0]
    assert found[0].bound == pytest.approx(1 - (0.05 / 3) ** (1 / n))
    assert found[1].errors == n
    assert found[2].labels == 0
    assert found[2].more is not None
    # So many clean labels bound 5% in a pool without an end: 0.95^n <= 0.05 / 3.
    assert found[2].more >= 80


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_error": 0.0}, "max_error"),
        ({"max_error": 1.0}, "max_error"),
        ({"confidence": 1.0}, "confidence"),
        ({"right": [True]}, "right"),
        ({"confidence_of_audit": [0.5, 1.5]}, "confidence"),
        ({"confidence_of_others": [float("nan")]}, "confidence"),
    ],
)
def test_bad_arguments(change: dict[str, object], named: str) -> None:
    given = {"confidence_of_audit": [0.5, 0.9], "right": [True, True], "max_error": 0.02}
    with pytest.raises(ArgumentError, match=named):
        choose_threshold(**(given | {"confidence_of_others": [0.8]} | change))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="classes"):
        choose_per_class([], [], [], [], [], classes=0, max_error=0.02)
