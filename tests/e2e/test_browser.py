"""What people see and press in Label Studio, in a real Chromium.

``TIEBREAK_TEST_PICTURES=docs/images`` keeps pictures of the screens that a test has just checked,
among them the README's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.callers import PASSWORD, USER
from tests.e2e.digits import Digits, choices_of, predictions_of
from tests.e2e.label_studio_browser import LabelStudioBrowser
from tests.e2e.label_studio_person import Json, Person
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TiebreakProcesses

NOTHING_TO_LEARN = """\
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image"><Label value="cat"/></RectangleLabels>
</View>"""
PHONE = {"width": 360, "height": 740}

Keep = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def window(chromium: Browser, label_studio: LabelStudioServer) -> Iterator[LabelStudioBrowser]:
    browser = LabelStudioBrowser(chromium, label_studio)
    browser.log_in()
    yield browser
    browser.close()


@pytest.fixture
def keep_picture() -> Keep:
    folder = os.environ.get("TIEBREAK_TEST_PICTURES")

    def keep(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            expect(page.get_by_text("Annotation saved successfully")).to_have_count(0)
            page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return keep


def unlabelled_scores(person: Person, project: int, order: str, done: set[int]) -> list[int]:
    """Unlabelled tasks, the one with the lowest score of the order first."""
    held = predictions_of(person, project, order)
    scores = {task: held[task][0]["score"] for task in held.keys() - done}
    return sorted(scores, key=scores.__getitem__)


def test_connect_label_in_order_and_start_training(
    window: LabelStudioBrowser,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
    keep_picture: Keep,
) -> None:
    person, project = window.server.admin, digit_project
    person.patch(f"/api/projects/{project}/", {"title": "Digits"})
    digits.add_tasks(project, range(70))
    window.connect_model(project, tiebreak.url)
    expect(window.model_state).to_have_text("Connected")
    keep_picture(window.page, "model")
    tiebreak.settle(project)

    done = set(digits.label_next(person, project, 30))
    tiebreak.post("/train", {"project": project}).raise_for_status()
    tiebreak.wait(project, lambda s: s["last_version"] and s["last_version"]["labels"] == 30)
    status = tiebreak.settle(project)
    version = status["version"]
    queue = unlabelled_scores(person, project, status["order"], done)
    held = predictions_of(person, project, status["order"])
    # One in ten of all that is labelled is of the audit set, wherever one stops.
    audit = tiebreak.audit_tasks(project)
    for count in range(6):
        served = {*done, *queue[:count]}
        assert abs(len(audit & served) - len(served) / 10) <= 1

    window.label_all_tasks(project)
    for expected in queue[:5]:
        assert window.shown_task == expected
        assert window.ticked == choices_of(held[expected][0])
        assert len(window.ticked) == (expected not in audit)
        truth = digits.truth(person.get(f"/api/tasks/{expected}"))
        if window.ticked == [truth]:
            keep_picture(window.page, "labelling")
        window.tick(truth)
        window.submit()
    reserved = window.shown_task
    assert reserved == queue[5]

    window.start_training(project)

    def newer(status: Json) -> Json | None:
        return status if status["version"] != version else None

    tiebreak.wait(project, newer)
    status = tiebreak.settle(project)
    assert status["last_version"]["labels"] == 35
    assert person.get(f"/api/projects/{project}")["model_version"] == status["order"]
    window.page.goto(f"{window.server.url}/projects/{project}/settings/predictions")
    expect(window.page.get_by_text(status["order"], exact=True)).to_be_visible()
    done |= {*queue[:5], reserved}
    queue = unlabelled_scores(person, project, status["order"], done)
    # The task that was on the screen stays the person's own; the one after it is of the new order.
    window.label_all_tasks(project)
    assert window.shown_task == reserved
    window.submit()
    assert window.shown_task == queue[0]


def test_the_status_page(
    chromium: Browser,
    window: LabelStudioBrowser,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_project: int,
    keep_picture: Keep,
) -> None:
    digits.add_tasks(digit_project, range(20))
    tiebreak.connect(digit_project)
    tiebreak.settle(digit_project)
    for name, choices in {
        "status": {},
        "status-dark": {"color_scheme": "dark"},
        "status-phone": {"viewport": PHONE},
    }.items():
        log_in = {"username": USER, "password": PASSWORD}
        context = chromium.new_context(http_credentials=log_in, **choices)
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message, into=problems: into.append(message.text))
        page.on("pageerror", lambda error, into=problems: into.append(str(error)))
        page.goto(tiebreak.url)
        section = page.locator("section").filter(
            has=page.locator(f'a[href$="/projects/{digit_project}/data"]')
        )
        expect(section.locator(".version")).to_have_text("v0")
        expect(section.locator("dd")).to_have_text(["0", "20", "0", "20 of 20", "0", "0", "0"])
        expect(section.locator(".outlook li")).to_have_text(
            ["Cannot tell the accuracy yet: no version has been measured."]
        )
        expect(section.locator(".doing")).to_have_text("Waiting: no labels yet.")
        wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, f"{name} scrolls sideways by {wider} px"
        # The strict content policy would be reported here if the page broke it.
        assert problems == []
        keep_picture(page, name)
        context.close()


def test_label_studio_says_why_a_config_is_refused(
    window: LabelStudioBrowser, tiebreak: TiebreakProcesses, project_titles: Iterator[str]
) -> None:
    person = window.server.admin
    project = person.create_project(next(project_titles), NOTHING_TO_LEARN)
    window.connect_model(project, tiebreak.url)
    said = window.page.get_by_text(re.compile("has nothing to learn.*Needed is a Choices"))
    expect(said.first).to_be_visible()
    assert person.get("/api/ml/", project=project) == []
    person.delete(f"/api/projects/{project}/")


def test_label_studio_says_that_the_password_is_wrong(
    window: LabelStudioBrowser, tiebreak: TiebreakProcesses, project: int
) -> None:
    window.connect_model(project, tiebreak.url, log_in=(USER, "password-of-others"))
    said = window.page.get_by_text(re.compile("password or the token is wrong.*tiebreak password"))
    expect(said.first).to_be_visible()
    assert window.server.admin.get("/api/ml/", project=project) == []
