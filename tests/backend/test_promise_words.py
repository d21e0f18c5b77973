"""Promises in words: what was asked for stands there as it was given."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from typer.testing import CliRunner

from backend.cli import app
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from backend.store import Store
from backend.tables import AutoRun
from tests.backend.auto_studio import AUDIT, CHECK, AutoStudio
from tests.backend.conftest import Tables
from tests.backend.small_label_studio import SmallLabelStudio


@pytest.fixture
def studio(
    tables: Tables,
    settings: Settings,
    small_label_studio: SmallLabelStudio,
    small_client: LabelStudio,
    monkeypatch: pytest.MonkeyPatch,
) -> AutoStudio:
    """A project that the command finds by its environment."""
    made = AutoStudio(tables, settings, small_label_studio, small_client)
    for name, value in {
        "TIEBREAK_DATA_DIR": str(settings.data_dir),
        "DATABASE_URL": settings.database_address,
        "LABEL_STUDIO_URL": small_label_studio.url,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "TIEBREAK_AUDIT_SHARE": str(AUDIT),
        "TIEBREAK_CHECK_SHARE": str(CHECK),
    }.items():
        monkeypatch.setenv(name, value)
    return made


def said(*arguments: str) -> str:
    """What ``tiebreak auto-label 1`` prints."""
    result = CliRunner().invoke(app, ["auto-label", "1", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_page_gives_each_promise_its_own_confidence(
    measured: tuple[FlaskClient, Store, Settings],
) -> None:
    page, store, _ = measured
    asked = [(0.02, 0.95), (0.0004, 0.6), (0.1, 0.9999)]
    with store.write() as session:
        for max_error, confidence in asked:
            run = AutoRun(project_id=1, created_at=1.0, state="done", version=3, control="label")
            run.max_error, run.confidence, run.promise = max_error, confidence, []
            session.add(run)
    text = page.get("/projects/1").get_data(as_text=True)
    [table] = re.findall(r"<caption>Promises</caption>.*?</table>", text, re.DOTALL)
    assert re.findall(r"<td>([\d.]+ %)</td><td>([\d.]+ %)</td>", table) == [
        ("2 %", "95 %"),
        ("0.04 %", "60 %"),
        ("10 %", "99.99 %"),
    ]
    [head] = re.findall(r"<thead>.*?</thead>", table)
    [row, *_] = re.findall(r"<tr>(?:(?!</tr>).)*</td></tr>", table)
    assert len(re.findall("<th ", head)) == len(re.findall("<t[hd]", row))


def test_the_command_says_what_was_asked_for(studio: AutoStudio) -> None:
    shown = said("--max-error", "0.0004", "--confidence", "0.999")
    assert "at most 0.04% wrong with 99.9% confidence" in shown
    assert "At most 0.04% wrong cannot be promised" in " ".join(shown.split())
    studio.begin()
    assert "(v1, 20%): accepting" in said("--max-error", "0.2")


def test_one_task_is_one_task(studio: AutoStudio) -> None:
    for task in sorted(studio.rest)[1:]:
        studio.tables.label(task, studio.truth[task])
    assert "confidence: 1 task would be accepted" in " ".join(said("--max-error", "0.2").split())
    said("--max-error", "0.2", "--yes")
    assert said("--undo") == "1 annotation was deleted; that task is unlabelled again.\n"
