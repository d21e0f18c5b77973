"""A person at Label Studio with a real Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from playwright.sync_api import Browser, Locator, Page, Playwright, expect

from tests.callers import LOG_IN
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import wait_until

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
PATIENCE_MS = 30_000
SIZE = {"width": 1100, "height": 620}


def launch_chromium(playwright: Playwright) -> Browser:
    """The Chromium that this machine has."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    assert found, "There is no Chromium; `make test` installs one, or says how to."
    return playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_ARGUMENTS))


class LabelStudioBrowser:
    """One browser window of the administrator; what is pressed is what a person would press."""

    def __init__(self, browser: Browser, server: LabelStudioServer) -> None:
        self.server = server
        self.context = browser.new_context(viewport=SIZE)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()

    def log_in(self) -> None:
        """Log in with e-mail and password."""
        self.page.goto(f"{self.server.url}/user/login/")
        self.page.fill("input[name=email]", self.server.email)
        self.page.fill("input[name=password]", self.server.password)
        self._button("Log in").click()
        self.page.wait_for_url(lambda url: "login" not in url)

    def connect_model(
        self, project: int, url: str, title: str = "My model", log_in: tuple[str, str] = LOG_IN
    ) -> None:
        """Paste a backend's address, user and password in Settings → Model → Connect Model, and
        save."""
        self.open_model_settings(project)
        self._button("Connect Model").click()
        self.page.fill("input[name=title]", title)
        self.page.fill("input[name=url]", url)
        self.page.get_by_text("No Authentication", exact=True).click()
        self.page.get_by_text("Basic Authentication", exact=True).click()
        self.page.fill("input[name=basic_auth_user]", log_in[0])
        self.page.fill("input[name=basic_auth_pass]", log_in[1])
        self._button("Validate and Save").click()

    def open_model_settings(self, project: int) -> None:
        """Settings → Model."""
        self.page.goto(f"{self.server.url}/projects/{project}/settings/ml")

    @property
    def model_state(self) -> Locator:
        """What the model's card says of its connection."""
        return self.page.get_by_text(re.compile("^(Connected|Disconnected|Error)$"))

    def start_training(self, project: int) -> None:
        """Press Start Training in the menu of the model's card, and once more in the dialog."""
        self.open_model_settings(project)
        self.page.get_by_label("Machine learning model options").click()
        self.page.get_by_text("Start Training", exact=True).click()
        with self.page.expect_response(re.compile(r"/api/ml/\d+/train")) as answer:
            self._button("Start Training").click()
        assert answer.value.ok, answer.value.text()

    def label_all_tasks(self, project: int) -> None:
        """Open the project and press Label All Tasks."""
        self.page.goto(f"{self.server.url}/projects/{project}/data")
        self._button("Label All Tasks").click()
        expect(self._submit).to_be_enabled(timeout=PATIENCE_MS)

    @property
    def _submit(self) -> Locator:
        return self._button("Submit")

    @property
    def shown_task(self) -> int:
        """Number of the task that is shown, as it stands in the corner."""
        return int(self._corner.inner_text().split()[0].removeprefix("#"))

    @property
    def _corner(self) -> Locator:
        return self.page.locator(".lsf-current-task__task-id")

    @property
    def ticked(self) -> list[str]:
        """The choices that are ticked."""
        return [box.get_attribute("name") or "" for box in self._boxes.all() if box.is_checked()]

    @property
    def _boxes(self) -> Locator:
        return self.page.locator("input[type=checkbox][name], input[type=radio][name]")

    def tick(self, choice: str) -> None:
        """Tick a choice, if it is not ticked already."""
        self.page.locator(f'input[name="{choice}"]').check()

    def submit(self) -> None:
        """Press Submit and wait for the next task."""
        before = self.shown_task
        self._submit.click()
        # The corner holds other numbers too, without a gap: "12" is in "21" and "26 of 26".
        wait_until(lambda: self.shown_task != before, PATIENCE_MS / 1000)
        expect(self._submit).to_be_enabled(timeout=PATIENCE_MS)

    def correct(self, project: int, task: int, said: str, choices: Sequence[str]) -> None:
        """Open the annotation of a task that says ``said``, tick those choices one after the other,
        and press Update."""
        self.page.goto(f"{self.server.url}/projects/{project}/data?task={task}")
        expect(self.page.locator(f'input[name="{said}"]')).to_be_checked(timeout=PATIENCE_MS)
        for choice in choices:
            self.tick(choice)
        self._button("Update").click()
        told = self.page.get_by_text("Annotation updated successfully")
        expect(told.first).to_be_visible(timeout=PATIENCE_MS)

    def _button(self, text: str) -> Locator:
        # Some buttons have another accessible name than the text that people read.
        return self.page.locator(f'button:has-text("{text}")')

    def close(self) -> None:
        """Close the window."""
        self.context.close()
