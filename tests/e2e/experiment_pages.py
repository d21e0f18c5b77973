"""The page of an experiment in a real Chromium, with no network to ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

PATIENCE_MS = 120_000

on_every_screen = pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1180), ("dark", 1180), ("light", 420)], ids=str
)


def draw(chromium: Browser, file: Path, scheme: str, width: int, *, plots: int) -> Page:
    """Open the page in ``file`` and see its plots; it asks nobody and is not too wide."""
    context = chromium.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 900},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    address = file.as_uri()
    page.goto(address)
    expect(page.locator(".js-plotly-plot")).to_have_count(plots, timeout=PATIENCE_MS)
    assert asked == [address]
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    return page
