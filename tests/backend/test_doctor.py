"""How the doctor looks, and how it says what it has found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from backend.backend_address import refused_name
from backend.cli import app
from backend.doctor.examination import Examination
from backend.doctor.findings import Finding, Outcome, Skipped, failed, ok
from backend.doctor.images import source_of, spread
from backend.doctor.registry import EVERYWHERE, OF_A_PROJECT, Check, Look
from backend.doctor.report import report_lines
from backend.doctor.runner import look_at
from backend.errors import LabelStudioUnreachable, SetupError
from backend.labelstudio import LabelStudio
from backend.log_secrets import hide_settings
from backend.settings import Settings
from tests.backend.doctors import look, no_network
from tests.backend.served_app import settings_in
from tests.callers import API_TOKEN, PASSWORD, WEBHOOK_SECRET
from tests.tiebreak_process import NOWHERE, TiebreakServer

__all__ = ["no_network"]


def test_an_address_that_means_another_machine_there(settings: Settings) -> None:
    finding = look("backend-address", settings, "https://labels.example.org")
    assert finding.state == "failed"
    assert "TIEBREAK_PUBLIC_URL" in finding.mend
    public = settings.model_copy(update={"public_url": "https://tiebreak.example.org"})
    assert look("backend-address", public, "https://labels.example.org").state == "ok"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9090", ""),
        ("http://[::1]:9090", ""),
        ("http://localhost:9090", ""),
        ("http://tiebreak.internal:9090", ""),
        ("https://Tiebreak.Example.org/sub/path", ""),
        ("http://host.docker.internal:9090", ""),
        ("http://a.xn--p1ai", ""),
        ("http://tiebreak:9090", "it has no dot"),
        ("http://my_tiebreak.internal", "it has an underscore"),
        ("http://tiebreak.1", "no name"),
        ("http://-a.org", "no name"),
        (f"http://{'a' * 64}.org", "no name"),
    ],
)
def test_names_that_label_studio_takes(url: str, reason: str) -> None:
    said = refused_name(url)
    assert bool(said) == bool(reason)
    assert reason in said


def test_a_server_with_another_password_or_token(tmp_path: Path) -> None:
    running = TiebreakServer(tmp_path, TIEBREAK_API_TOKEN=API_TOKEN)
    with closing(running.start()):
        same = settings_in(tmp_path, port=running.port)
        assert look("server", same).state == "ok"
        other = same.model_copy(update={"password": SecretStr("another-password-123")})
        finding = look("server", other)
        assert (finding.state, "another user or password" in finding.what) == ("failed", True)
        assert "TIEBREAK_PASSWORD" in finding.mend
        assert "another-password" not in str(finding)
        stranger = look("server", same.model_copy(update={"api_token": SecretStr("x" * 20)}))
        assert "another API token" in stranger.what


@contextmanager
def _exam(settings: Settings) -> Iterator[Examination]:
    with LabelStudio(NOWHERE, "0" * 40, 5) as client:
        yield Examination(settings, client)


def _raise(error: Exception) -> Look:
    def look(exam: Examination) -> Outcome:
        raise error

    return look


def test_no_check_ends_the_others_and_no_secret_is_told(settings: Settings) -> None:
    hide_settings(settings)
    unreachable = LabelStudioUnreachable("gone", mend="Start it.")
    looks: dict[str, Look] = {
        "hangs": lambda exam: time.sleep(5) or ok("never"),  # type: ignore[func-returns-value]
        "breaks": _raise(ValueError(f"unexpected {PASSWORD}")),
        "refuses": _raise(SetupError("This is missing.", mend="Get it.")),
        "skips": _raise(Skipped("there is nothing")),
        "label-studio": _raise(unreachable),
        "follows": _raise(unreachable),
        "tells": lambda exam: failed(f"http://u:pw@host/?sig=1 {WEBHOOK_SECRET}", API_TOKEN),
        "works": lambda exam: ok("fine"),
    }
    checks = [Check(name, look, "because", 0.5) for name, look in looks.items()]
    said = list[str]()
    with _exam(settings) as exam:
        found = {f.check: f for f in look_at(checks, exam, None, (), said.append)}
    assert said == list(looks)
    states = {name: finding.state for name, finding in found.items()}
    assert states == dict.fromkeys(looks, "failed") | {
        "skips": "skipped",
        "follows": "skipped",
        "works": "ok",
    }
    assert found["refuses"].mend == "Get it."
    assert "ValueError" in found["breaks"].what
    assert "within 0.5 s" in found["hangs"].what
    assert found["works"].why == ""
    assert found["refuses"].why == "because"
    text = json.dumps([finding.as_json() for finding in found.values()])
    for secret in (PASSWORD, WEBHOOK_SECRET, API_TOKEN, "u:pw", "sig=1"):
        assert secret not in text


def test_the_report_shows_each_finding_with_its_mend() -> None:
    findings = [
        Finding("disk", None, "ok", "Enough [room]", "", "", ""),
        Finding("webhook", 3, "failed", "It is gone.", "Labels wait.", "Connect.", "reconnect"),
    ]
    lines = list(report_lines(findings, {3: "Cats"}, ["It was done."]))
    assert r"Enough \[room]" in lines[1]
    assert "Project 3 “Cats”" in lines[2]
    assert "It is gone." in lines[3]
    assert ("Labels wait." in lines[4], "Connect." in lines[5]) == (True, True)
    assert lines[-1] == "\n1 of 2 checks failed. --fix mends some of it."
    assert "none failed" in list(report_lines(findings[:1], {}, []))[-1]


def test_the_command_without_a_label_studio(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", NOWHERE)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "4" * 40)
    monkeypatch.setenv("TIEBREAK_PORT", "9")
    done = CliRunner().invoke(app, ["doctor", "7", "--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert not report["healthy"]
    states = {finding["check"]: finding["state"] for finding in report["findings"]}
    assert list(states) == [check.name for check in (*EVERYWHERE, *OF_A_PROJECT)]
    for name in ("data-folder", "database", "label-studio", "server"):
        assert states[name] == "failed"
    assert {states[check.name] for check in OF_A_PROJECT} == {"skipped"}
    assert "4" * 40 not in done.output
    # Looking makes nothing.
    assert not settings.data_dir.exists()


@given(st.lists(st.tuples(st.integers(1), st.text()), unique=True), st.integers(2, 5))
def test_a_sample_has_both_ends_and_no_task_twice(
    samples: list[tuple[int, str]], count: int
) -> None:
    chosen = spread(samples, count)
    assert len(chosen) == min(count, len(samples)) == len(set(chosen))
    assert chosen == [sample for sample in samples if sample in set(chosen)]
    assert not samples or (chosen[0], chosen[-1]) == (samples[0], samples[-1])


@given(st.text())
def test_a_source_never_names_more_than_a_host(uri: str) -> None:
    assert len(source_of(uri)) <= 80


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("/data/upload/3/a.png", "/data/upload/"),
        ("/sub/data/local-files/?d=a.png", "/data/local-files/"),
        ("/elsewhere.png", "Label Studio"),
        ("s3://bucket/key?secret=1", "s3://bucket"),
        ("https://u:p@host.example:8/a?b=c", "https://host.example"),
        ("data:image/png;base64,AAAA", "data: in the task"),
        ("http://[", "an address that cannot be read"),
    ],
)
def test_sources(uri: str, source: str) -> None:
    assert source_of(uri) == source


def test_every_check_has_a_name_of_its_own_and_a_reason() -> None:
    checks = (*EVERYWHERE, *OF_A_PROJECT)
    assert len({check.name for check in checks}) == len(checks)
    documented = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    for check in checks:
        assert check.why.endswith(".")
        assert check.look.__doc__
        assert f"| `{check.name}` |" in documented
