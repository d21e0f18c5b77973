"""Tiebreak's own pages in a real Chromium: read, used, and held to the rules of accessibility.

``TIEBREAK_TEST_PICTURES=docs/images`` keeps pictures of what a test has just checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from backend.store import Store
from backend.tables import ImageSource, Project
from backend.working_copies import WorkingCopies, working_copies
from tests.backend.measured_project import AUDIT_SHARE, make_measured
from tests.backend.served_app import settings_in
from tests.callers import PASSWORD, USER
from tests.tiebreak_process import TiebreakServer

PAGES = {
    "projects": "/",
    "project": "/projects/1",
    "answers": "/projects/1/answers?control=label&truth=cat&said=dog",
    "versions": "/projects/1/versions",
    "dataset": "/projects/1/dataset",
}
PATIENCE_MS = 60_000
LOOKS = {"light": ("light", 1100), "dark": ("dark", 1100), "phone": ("light", 400)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TiebreakServer, Store]]:
    """A server with a project whose versions were fitted and measured, and its database."""
    folder = tmp_path_factory.mktemp("pages")
    settings = settings_in(folder, audit_share=AUDIT_SHARE)
    store = Store(settings.database_address)
    store.migrate()
    make_measured(store, settings)
    _draw_images(store, working_copies(settings))
    server = TiebreakServer(folder, TIEBREAK_AUDIT_SHARE=str(AUDIT_SHARE)).start()
    try:
        yield server, store
    finally:
        server.close()
        store.close()


def _draw_images(store: Store, copies: WorkingCopies) -> None:
    """A working copy of each image that was not broken, each of another colour."""
    with store.read() as session:
        digests = session.scalars(select(ImageSource.digest).where(ImageSource.digest.is_not(None)))
        for number, digest in enumerate(sorted({str(digest) for digest in digests})):
            path = copies.path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("HSV", (160, 120), (number % 256, 120, 200)).convert("RGB").save(path)


class Window:
    """A browser window that has logged in; ``problems`` is what it complained of."""

    def __init__(self, browser: Browser, url: str, scheme: str = "light", width: int = 1100):
        self.url = url
        self.context = browser.new_context(
            http_credentials={"username": USER, "password": PASSWORD},
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> Page:
        """Open a page of the server, and wait until its plots are drawn."""
        self.page.goto(f"{self.url}{path}")
        plots = self.page.locator(".plot").count()
        expect(self.page.locator(".plot.js-plotly-plot")).to_have_count(plots)
        return self.page


def keep_picture(page: Page, name: str) -> None:
    folder = os.environ.get("TIEBREAK_TEST_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled", full_page=True)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_clear_to_everybody(
    chromium: Browser, served: tuple[TiebreakServer, Store], look: str
) -> None:
    scheme, width = LOOKS[look]
    window = Window(chromium, served[0].url, scheme, width)
    for name, path in PAGES.items():
        page = window.open(path)
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], [node["html"] for node in each["nodes"]][:3])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"{name}, {look}"
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{name}, {look} scrolls sideways by {wider} px"
        expect(page.locator("h1")).to_have_count(1)
        # The strict content policy would be reported here if a page broke it.
        assert window.problems == [], f"{name}, {look}"
        keep_picture(page, f"page-{name}-{look}")
    assert all(url.startswith(served[0].url) for url in window.asked)
    window.context.close()


def test_the_keyboard_gets_everywhere(
    chromium: Browser, served: tuple[TiebreakServer, Store]
) -> None:
    window = Window(chromium, served[0].url)
    page = window.open("/projects/1")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    links = page.locator("nav a")
    assert links.all_inner_texts()[:2] == ["Projects", "Overview"]
    assert {"Versions", "Data set"} <= set(links.all_inner_texts())
    page.get_by_role("link", name="Versions").press("Enter")
    expect(page.locator("h1")).to_have_text("Versions of Pets & owls")
    expect(page.locator("nav a[aria-current]")).to_have_text("Versions")
    window.context.close()


def test_what_changes_is_shown_without_reloading(
    chromium: Browser, served: tuple[TiebreakServer, Store]
) -> None:
    server, store = served
    window = Window(chromium, server.url)
    page = window.open("/")
    page.evaluate("window.notReloaded = true")
    page.get_by_role("link", name="Pets & owls").focus()
    page.locator("details summary").click()
    with store.write() as session:
        session.get_one(Project, 1).activity = "embedding image 7 of 9"
    expect(page.locator(".doing")).to_have_text("Now: embedding image 7 of 9.", timeout=PATIENCE_MS)
    expect(page.locator("#said")).to_contain_text("embedding image 7 of 9")
    assert page.evaluate("window.notReloaded")
    # What was opened stays open, and what had the focus keeps it.
    expect(page.locator("details")).to_have_attribute("open", "")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    with store.write() as session:
        session.get_one(Project, 1).activity = ""
    assert window.problems == []
    window.context.set_offline(True)
    expect(page.locator("#unanswered")).to_contain_text(
        "Tiebreak cannot be reached.", timeout=PATIENCE_MS
    )
    window.context.set_offline(False)
    expect(page.locator("#unanswered")).to_be_hidden(timeout=PATIENCE_MS)
    window.context.close()


def test_promote_and_roll_back(chromium: Browser, served: tuple[TiebreakServer, Store]) -> None:
    server, store = served

    def champion() -> int:
        with store.read() as session:
            return session.get_one(Project, 1).champion

    window = Window(chromium, server.url)
    page = window.open("/projects/1/versions")
    page.get_by_role("button", name="Promote v4").click()
    expect(page.locator("#ask-question")).to_contain_text("The gate refused it")
    page.get_by_role("button", name="Cancel").click()
    assert champion() == 3
    page.get_by_role("button", name="Promote v4").click()
    page.locator("#ask-yes").click()
    expect(page.locator("#outcome")).to_contain_text("v4 serves now, instead of v3.")
    expect(page.locator("#outcome")).to_contain_text("The gate refused v4.")
    expect(page.locator("#serving")).to_have_text("v4 serves")
    assert champion() == 4
    page.get_by_role("button", name="Roll back to v3").click()
    # Somebody else is faster.
    with store.write() as session:
        session.get_one(Project, 1).champion = 2
    page.locator("#ask-yes").click()
    expect(page.locator("#outcome.problem")).to_contain_text("v2 serves now, and no longer v4.")
    expect(page.locator("#serving")).to_have_text("v2 serves")
    assert champion() == 2
    with store.write() as session:
        session.get_one(Project, 1).champion = 4
    page.reload()
    page.get_by_role("button", name="Roll back to v3").click()
    page.locator("#ask-yes").click()
    expect(page.locator("#serving")).to_have_text("v3 serves")
    assert champion() == 3
    assert [p for p in window.problems if "422" not in p] == []
    window.context.close()
