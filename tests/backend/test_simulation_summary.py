"""What a simulation says in the end, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from backend.simulate_table import simulation_table
from backend.simulation_summary import summarise
from backend.simulation_text import sentences


def a_run(strategy: str, seed: int, **curve: float) -> dict[str, Any]:
    points = [{"labels": int(n[1:]), "accuracy": value} for n, value in curve.items()]
    return {"strategy": strategy, "seed": seed, "curve": points}


RUNS = [
    a_run("random", 0, n100=0.5, n200=0.6, n400=0.8),
    a_run("random", 1, n100=0.3, n200=0.6, n400=0.7),
    a_run("auto", 0, n100=0.6, n200=0.8, n400=0.9),
    a_run("auto", 1, n100=0.5, n200=0.6, n400=0.8),
]
NAMES = ["auto", "random"]


def part(summary: dict[str, Any], strategy: str) -> dict[str, Any]:
    (found,) = [p for p in summary["strategies"] if p["strategy"] == strategy]
    return dict(found)


def test_the_target_is_what_random_has_in_the_end() -> None:
    summary = summarise(RUNS, NAMES)
    assert summary["target"] == pytest.approx(0.75)
    assert summary["target_from"] == "random at 400 labels"
    auto = part(summary, "auto")
    assert auto["seeds"] == 2
    assert auto["curve"][1] == {
        "labels": 200,
        "accuracy": pytest.approx(0.7),
        "low": 0.6,
        "high": 0.8,
        "gain": pytest.approx(0.1),
        "gain_low": pytest.approx(0.0),
        "gain_high": pytest.approx(0.2),
    }
    # The mean goes from 0.7 at 200 to 0.85 at 400.
    assert auto["labels_to_target"] == pytest.approx(200 + 200 / 3)
    assert auto["saving"] == pytest.approx(1.5)
    # Seed 0 looks for 0.8, which it has at 200; seed 1 for 0.7, half-way between 200 and 400.
    assert (auto["labels_low"], auto["labels_high"]) == (pytest.approx(200), pytest.approx(300))
    assert (auto["saving_low"], auto["saving_high"]) == (pytest.approx(4 / 3), pytest.approx(2))
    assert auto["reached"] == 2
    random = part(summary, "random")
    assert (random["labels_to_target"], random["saving"]) == (pytest.approx(400), pytest.approx(1))


def test_a_target_of_ones_own() -> None:
    summary = summarise(RUNS, NAMES, 0.8)
    assert (summary["target"], summary["target_from"]) == (0.8, "--target")
    auto, random = part(summary, "auto"), part(summary, "random")
    assert auto["labels_to_target"] == pytest.approx(200 + 200 * 2 / 3)
    assert (random["labels_to_target"], random["reached"], auto["saving"]) == (None, 1, None)
    # Only seed 0 can be compared: random has 0.8 at 400, auto at 200.
    assert (auto["saving_low"], auto["saving_high"]) == (pytest.approx(2), pytest.approx(2))
    assert sentences(summary) == [
        "For 80.0 % auto needs 333 labels; random does not get there with 400."
    ]
    low = summarise(RUNS, NAMES, 0.4)
    assert part(low, "auto")["at_most"]
    assert sentences(low) == ["For 40.0 % random needs ≤ 100 labels, auto ≤ 100."]
    some = summarise(RUNS, NAMES, 0.5)
    # Random has 0.4 at 100 and 0.6 at 200 in the mean; seed 0 has 0.5 at once, seed 1 at 167.
    assert sentences(some) == [
        "For 50.0 % random needs 150 labels, auto ≤ 100: ≥ 1.5 times (1.7–1.7)."
    ]
    high = summarise(RUNS, NAMES, 0.95)
    assert sentences(high) == ["auto does not reach 95.0 % with 400 labels."]
    assert part(high, "auto")["labels_low"] is None


def test_without_random_there_is_nothing_to_compare_with() -> None:
    summary = summarise(RUNS[2:], ["auto"])
    assert (summary["target"], summary["target_from"]) == (None, None)
    auto = part(summary, "auto")
    assert auto["labels_to_target"] is auto["saving"] is auto["curve"][0]["gain"] is None
    assert sentences(summary) == []
    known = part(summarise(RUNS[2:], ["auto"], 0.7), "auto")
    assert known["labels_to_target"] == pytest.approx(200)
    assert known["saving"] is None


def test_what_is_not_done_yet_is_left_out() -> None:
    assert summarise([], NAMES)["strategies"] == []
    summary = summarise(RUNS[1:3], NAMES)
    # The seeds of both are not the same: nothing is paired.
    auto = part(summary, "auto")
    assert auto["curve"][0]["gain"] is None
    assert auto["saving_low"] is None
    assert summary["target"] == pytest.approx(0.7)


def test_the_table_says_so() -> None:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(simulation_table(summarise(RUNS, NAMES)))
    lines = [" ".join(line.split()) for line in capture.get().splitlines() if line.strip()]
    assert lines == [
        "labels auto % random %",
        "100 55.0 (50.0–60.0) +15.0 40.0 (30.0–50.0)",
        "200 70.0 (60.0–80.0) +10.0 60.0 (60.0–60.0)",
        "400 85.0 (80.0–90.0) +10.0 75.0 (70.0–80.0)",
        "labels to 75.0 267 400",
        "over seeds 200–300 400–400",
        "saving 1.5 times (1.3–2.0) 1.0 times (1.0–1.0)",
    ]
