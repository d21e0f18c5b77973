"""Try an image, Queue and Suspicious labels, in a real Chromium, against a real Label Studio."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from backend.store import Store
from backend.tables import Label, QualityCheck
from tests.callers import PASSWORD, USER
from tests.e2e.digits import Digits
from tests.e2e.label_studio_browser import LabelStudioBrowser
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import TRAINER, TiebreakProcesses, labels_learned

PATIENCE_MS = 90_000
LABELLED, WAITING = 40, 20
FIRST_NEW = 200


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(
        http_credentials={"username": USER, "password": PASSWORD},
        viewport={"width": 1180, "height": 900},
    )
    context.set_default_timeout(PATIENCE_MS)
    made = context.new_page()
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    yield made
    # The strict content policy would be reported here if a page broke it.
    refused = [each for each in problems if "status of 400" not in each]
    assert refused == []
    context.close()


@pytest.fixture
def no_trainer(tiebreak: TiebreakProcesses) -> Iterator[None]:
    """Nobody checks labels anew while a test looks."""
    tiebreak.stop(TRAINER)
    yield
    tiebreak.start_trainer()


@pytest.fixture
def learned(tiebreak: TiebreakProcesses, digits: Digits, digit_project: int) -> int:
    """A project that has learned forty digits and has twenty in its queue."""
    person = digits.label_studio.admin
    person.patch(f"/api/projects/{digit_project}/", {"title": "Digits"})
    digits.add_tasks(digit_project, range(LABELLED + WAITING))
    digits.label(person, digit_project, LABELLED)
    tiebreak.connect(digit_project)
    tiebreak.post("/train", {"project": digit_project}).raise_for_status()
    tiebreak.wait(digit_project, lambda status: labels_learned(status) == LABELLED)
    tiebreak.settle(digit_project)
    return digit_project


def sound(page: Page) -> None:
    """Nothing serious for axe, and no wider than the screen, on a laptop and on a phone."""
    found = Axe().run(page).response["violations"]
    serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
    for width in (1180, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.set_viewport_size({"width": 1180, "height": 900})


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("TIEBREAK_TEST_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled", full_page=True)


def test_try_correct_retrain_and_the_queue(
    page: Page,
    tiebreak: TiebreakProcesses,
    digits: Digits,
    digit_files: Path,
    label_studio: LabelStudioServer,
    learned: int,
) -> None:
    person, project = label_studio.admin, learned
    page.goto(f"{tiebreak.url}/projects/{project}/try")
    expect(page.locator("nav [aria-current=page]")).to_have_text("Try an image")
    new = digit_files / f"{FIRST_NEW:04d}.png"
    page.set_input_files("#files", new)
    card = page.locator("section.result")
    expect(card.locator(".label")).to_have_text(re.compile(r"^\d$"), timeout=PATIENCE_MS)
    expect(card.locator("h2")).to_have_text(new.name)
    expect(card.locator(".confidence")).to_have_text(re.compile(r"^\d+\.\d %$"))
    expect(card.locator(".top5 li")).to_have_count(5)
    expect(card.locator(".nearest li")).to_have_count(6)
    expect(page.locator("#doing")).to_contain_text(f"{new.name}: ")
    sizes = card.locator("img").evaluate_all(
        "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(sizes) == 5 + 6
    assert min(sizes) > 0, "every picture is there"

    heat = card.locator(".heat")
    for value, opacity in (("0", "0"), ("100", "1")):
        card.locator(".strength").fill(value)
        assert heat.evaluate("e => getComputedStyle(e).opacity") == opacity
    box, under = heat.bounding_box(), card.locator(".layered .plain").last.bounding_box()
    assert box == under, "a layer lies exactly over its image"
    before = heat.get_attribute("src")
    second = card.locator(".explained option").nth(1).get_attribute("value")
    card.locator(".explained").select_option(index=1)
    expect(heat).not_to_have_attribute("src", str(before), timeout=PATIENCE_MS)
    expect(card.locator(".explained")).to_have_value(str(second))
    card.locator(".strength").fill("70")
    sound(page)
    keep(page, "try")

    card.locator("button[type=submit]").click()
    expect(card.locator(".sent")).to_have_text("Choose what it is first.")
    truth = str(digits._truth[FIRST_NEW])
    card.locator("fieldset select").select_option(truth)
    card.locator("button[type=submit]").click()
    expect(card.locator(".sent")).to_contain_text("It is task")
    task = int(re.findall(r"task (\d+)", card.locator(".sent").inner_text())[0])
    made = person.get(f"/api/tasks/{task}")
    assert made["data"]["image"].endswith(f"-{new.name}")
    (annotation,) = made["annotations"]
    assert annotation["result"][0]["value"]["choices"] == [truth]
    expect(card.locator("button[type=submit]")).to_be_disabled()
    card.locator(".retrain").click()
    expect(card.locator(".sent")).to_contain_text("A training is asked for")
    tiebreak.wait(project, lambda s: s["labelled"] == LABELLED + 1)

    page.fill("#addresses", "http://127.0.0.1:9/secret.png")
    page.click("#addresses-form button")
    expect(page.locator("section.result .problem").first).to_contain_text("127.0.0.1")

    status = tiebreak.settle(project)
    page.goto(f"{tiebreak.url}/projects/{project}/queue")
    expect(page.locator(".queue > li")).to_have_count(status["unlabelled"])
    links = page.locator(".queue a").evaluate_all("links => links.map(a => a.href)")
    tasks = [int(link.rpartition("task=")[2]) for link in links]
    held = {
        t["id"]: [p["score"] for p in t["predictions"] if p["model_version"] == status["order"]]
        for t in (person.get(f"/api/tasks/{task}") for task in tasks)
    }
    assert tasks == sorted(tasks, key=lambda task: held[task])
    assert links[0].startswith(f"{label_studio.url}/projects/{project}/data?task=")
    audit = tiebreak.audit_tasks(project) & set(tasks)
    for place, number in enumerate(tasks):
        row = page.locator(".queue > li").nth(place)
        expect(row.locator(".said")).to_have_count(0 if number in audit else 2)
        assert row.locator(".soft").inner_text()
    sizes = page.locator(".queue img").evaluate_all(
        "images => Promise.all(images.map(i => { i.loading = 'eager'; return i.decode()"
        ".then(() => i.naturalWidth); }))"
    )
    assert len(sizes) == len(tasks)
    assert min(sizes) > 0
    sound(page)
    keep(page, "queue")


def suspect(tiebreak: TiebreakProcesses, project: int) -> list[int]:
    """Write three labels down as suspicious, as a check does. Their tasks, the worst first."""
    address = f"sqlite:///{tiebreak.data / 'tiebreak.db'}"
    with closing(Store(address)) as store, store.write() as session:
        query = select(Label).where(Label.project_id == project).order_by(Label.task_id.desc())
        labels = session.scalars(query.limit(3)).all()
        check = session.get(QualityCheck, project)
        if check is None:
            check = QualityCheck(project_id=project, checked_at=1.0, seconds=1.0, drift={})
            session.add(check)
        check.mark, check.labels = "by hand", LABELLED
        check.suspicious = [
            {
                "task": label.task_id,
                "control": label.control,
                "given": label.choices,
                "likely": ["7"],
                "probability": 0.75,
                "doubt": 0.9 - 0.1 * place,
                "reasons": ["model", "near-duplicate"],
            }
            for place, label in enumerate(labels)
        ]
        return [label.task_id for label in labels]


def test_suspicious_labels_and_their_tab(
    page: Page,
    chromium: Browser,
    tiebreak: TiebreakProcesses,
    label_studio: LabelStudioServer,
    learned: int,
    no_trainer: None,
) -> None:
    worst = suspect(tiebreak, learned)
    before = label_studio.admin.get(f"/api/tasks/{worst[0]}")["annotations"]
    page.goto(f"{tiebreak.url}/projects/{learned}/suspicious")
    rows = page.locator("section").first.locator("tbody tr")
    expect(rows).to_have_count(3)
    for place, task in enumerate(worst):
        link = rows.nth(place).locator("a")
        href = f"{label_studio.url}/projects/{learned}/data?task={task}"
        expect(link).to_have_attribute("href", href)
    sizes = rows.locator("img").evaluate_all(
        "images => Promise.all(images.map(i => { i.loading = 'eager'; return i.decode()"
        ".then(() => i.naturalWidth); }))"
    )
    assert min(sizes) > 0
    sound(page)
    keep(page, "suspicious")

    links = []
    for _ in range(2):
        page.locator("#make-tab").click()
        made = page.locator("#tab-made a")
        expect(page.locator("#tab-made")).to_have_text(
            "Open “Suspicious labels” in Label Studio (3 tasks)", timeout=PATIENCE_MS
        )
        links.append(str(made.get_attribute("href")))
        page.reload()
    assert links[0] == links[1], "one tab, filled anew"
    view = int(links[0].rpartition("tab=")[2])
    shown = label_studio.admin.get("/api/tasks", view=view, project=learned)
    assert {task["id"] for task in shown["tasks"]} == set(worst)
    window = LabelStudioBrowser(chromium, label_studio)
    window.log_in()
    window.page.goto(links[0])
    expect(window.page.get_by_text("Suspicious labels").first).to_be_visible()
    expect(window.page.get_by_text(re.compile(r"Tasks:\s*3\b")).first).to_be_visible()
    window.context.close()
    assert label_studio.admin.get(f"/api/tasks/{worst[0]}")["annotations"] == before
