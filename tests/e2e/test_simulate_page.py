"""The page of ``tiebreak simulate`` in a real Chromium, with no network to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from backend.experiment_page import write_page
from backend.simulate_page import PageText, simulation_page
from backend.simulation_summary import summarise
from tests.e2e.experiment_pages import draw, on_every_screen

TEXT = PageText("Labelling replayed on <pets>", "500 images to label", "2 cores of a machine")
BUDGETS = (20, 50, 100, 200, 400, 1000)
ENDS = {"random": (0.40, 0.80), "margin": (0.35, 0.84), "typiclust": (0.55, 0.81)}


def runs() -> list[dict[str, Any]]:
    """Three seeds of each strategy, from the first accuracy to the last along a straight line."""
    found = []
    for strategy, (first, last) in ENDS.items():
        for seed in range(3):
            shift = (seed - 1) * 0.02
            curve = [
                {
                    "labels": labels,
                    "accuracy": first + shift + place / 5 * (last - first - 0.5 * shift),
                }
                for place, labels in enumerate(BUDGETS)
            ]
            found.append({"strategy": strategy, "seed": seed, "curve": curve})
    return found


@on_every_screen
def test_the_page_draws_without_asking_anybody(
    chromium: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    write_page(tmp_path / "page.html", simulation_page(TEXT, summarise(runs(), list(ENDS))))
    page = draw(chromium, tmp_path / "page.html", scheme, width, plots=3)
    expect(page.locator("h1")).to_have_text(TEXT.title)
    said = page.locator(".best").all_inner_texts()
    # From 0.742 at 400 to 0.84 at 1,000 in the mean; from 0.758 to 0.81.
    assert [sentence.partition(" (")[0] for sentence in said] == [
        "For 80.0 % random needs 1,000 labels, margin 755: 1.3 times",
        "For 80.0 % random needs 1,000 labels, typiclust 885: 1.1 times",
    ]
    names = page.locator("thead th").all_inner_texts()
    assert names == ["labels", "random", "margin", "typiclust"]
    cells = page.locator("tbody tr").nth(5).locator("td").all_inner_texts()
    assert cells[0] == "1,000"
    assert [cell.split()[0] for cell in cells[1:]] == ["80.0", "84.0", "81.0"]
    # A line and a band for each of three strategies.
    assert page.locator("#plot-curves .scatterlayer .trace").count() == 6
    assert page.locator("#plot-curves .legendtext").all_text_contents() == list(ENDS)
    assert page.locator("#plot-gain .legendtext").all_text_contents() == ["margin", "typiclust"]
    colour = page.evaluate("getComputedStyle(document.querySelector('#plot-curves text')).fill")
    assert (colour == "rgb(230, 234, 240)") == (scheme == "dark")
    page.context.close()
