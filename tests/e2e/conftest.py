"""Fixtures of the end-to-end tests: one real Label Studio for the whole session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from backend.demo import write_digits
from backend.labelstudio import LabelStudio
from backend.local_label_studio import one_queue
from tests.e2e.digits import Digits
from tests.e2e.label_studio_browser import launch_chromium
from tests.e2e.label_studio_server import LabelStudioServer, prepare_template
from tests.e2e.tiebreak_processes import TiebreakProcesses
from tests.tiebreak_process import REPOSITORY

StartLabelStudio = Callable[..., LabelStudioServer]
StartTiebreak = Callable[..., TiebreakProcesses]

SINGLE_CHOICE = """\
<View>
  <Image name="image" value="$image"/>
  <Choices name="label" toName="image">
    <Choice value="cat"/><Choice value="dog"/><Choice value="owl"/>
  </Choices>
</View>"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked ``e2e``."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def label_studio_template() -> Path:
    """A migrated data folder, to be copied and never written to."""
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    return prepare_template(cache)


@pytest.fixture(scope="session")
def label_studio(
    label_studio_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelStudioServer]:
    """The session's Label Studio, which may reach backends on 127.0.0.1, and in which people take
    turns at the queue, as in the one that ``tiebreak up`` starts.

    Tests share it: each makes its own project, and none stops it.
    """
    folder = tmp_path_factory.mktemp("label-studio")
    server = LabelStudioServer(folder, label_studio_template, one_queue())
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def start_label_studio(label_studio_template: Path, tmp_path: Path) -> Iterator[StartLabelStudio]:
    """``start(env={...})``: a Label Studio of the test's own, which it may stop and restart."""
    servers: list[LabelStudioServer] = []

    def start(env: Mapping[str, str] | None = None) -> LabelStudioServer:
        folder = tmp_path / f"label-studio-{len(servers)}"
        server = LabelStudioServer(folder, label_studio_template, env)
        servers.append(server)
        return server.start()

    try:
        yield start
    finally:
        for server in servers:
            server.close()


@pytest.fixture(scope="session")
def project_titles() -> Iterator[str]:
    """Titles that no other test of the session uses."""
    return (f"Project {number}" for number in itertools.count(1))


@pytest.fixture
def project(label_studio: LabelStudioServer, project_titles: Iterator[str]) -> Iterator[int]:
    """Number of a new, empty project with the classes cat, dog and owl; deleted afterwards."""
    number = label_studio.admin.create_project(next(project_titles), SINGLE_CHOICE)
    yield number
    label_studio.admin.delete_project(number)


@pytest.fixture(scope="session")
def digit_files() -> Path:
    """A folder with the handwritten digits as PNG files, to be copied and never written to."""
    return write_digits(REPOSITORY / ".cache" / "digits").folder


@pytest.fixture(scope="session")
def digits(label_studio: LabelStudioServer, digit_files: Path) -> Digits:
    """Digits among the local files of the session's Label Studio."""
    return Digits(label_studio, digit_files)


@pytest.fixture(scope="session")
def tiebreak(
    label_studio: LabelStudioServer,
    real_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TiebreakProcesses]:
    """The session's server and trainer, beside the session's Label Studio.

    Tests share them: each makes its own project, and none stops them.
    """
    folder = tmp_path_factory.mktemp("tiebreak")
    processes = TiebreakProcesses(folder, label_studio, real_weights)
    try:
        yield processes.start()
    finally:
        processes.close()


@pytest.fixture
def start_tiebreak(real_weights: Path, tmp_path: Path) -> Iterator[StartTiebreak]:
    """``start(label_studio, NAME=value)``: a server and a trainer of the test's own."""
    started: list[TiebreakProcesses] = []

    def start(label_studio: LabelStudioServer, **env: str) -> TiebreakProcesses:
        folder = tmp_path / f"tiebreak-{len(started)}"
        processes = TiebreakProcesses(folder, label_studio, real_weights, env)
        started.append(processes)
        return processes.start()

    try:
        yield start
    finally:
        for processes in started:
            processes.close()


@pytest.fixture
def digit_project(
    digits: Digits, label_studio: LabelStudioServer, project_titles: Iterator[str]
) -> Iterator[int]:
    """Number of a new project whose classes are the ten digits; no tasks yet."""
    number = digits.create_project(next(project_titles))
    yield number
    label_studio.admin.delete_project(number)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser."""
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudio]:
    """Tiebreak's own client of the running Label Studio."""
    with LabelStudio(label_studio.url, label_studio.token) as client:
        yield client
