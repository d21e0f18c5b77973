"""The doctor's checks of this machine and its storage, on faults that are really there."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from backend.backend_address import refused_name
from backend.cli import app
from backend.doctor.examination import Examination
from backend.doctor.findings import Finding, Outcome, Skipped, failed, ok
from backend.doctor.fixes import fix
from backend.doctor.images import source_of, spread
from backend.doctor.machine import LEAST_FREE, file_system
from backend.doctor.registry import EVERYWHERE, OF_A_PROJECT, Check, Look
from backend.doctor.report import report_lines
from backend.doctor.runner import look_at
from backend.errors import LabelStudioUnreachable, SetupError
from backend.labelstudio import LabelStudio
from backend.log_secrets import hide_settings
from backend.settings import Settings
from backend.store import MIGRATIONS, Store, newest_revision
from backend.tables import TrainerProcess
from model.backbones import BACKBONES
from tests.backend.buckets import Machine
from tests.backend.small_label_studio import SmallLabelStudio
from tests.backend.test_full_disk import filled, small_disk
from tests.callers import API_TOKEN, PASSWORD, WEBHOOK_SECRET
from tests.tiebreak_process import NOWHERE

__all__ = ["small_disk"]


@pytest.fixture
def database() -> None:
    """SQLite, a file of the data folder."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are asked for at a proxy that is not there."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)


def look(name: str, settings: Settings, url: str = NOWHERE, project: int | None = None) -> Finding:
    """The finding of one check."""
    [check] = [check for check in (*EVERYWHERE, *OF_A_PROJECT) if check.name == name]
    with LabelStudio(url, "0" * 40, 5) as client:
        exam = Examination(settings, client, project)
        [finding] = look_at([check], exam, project, (), lambda line: None)
    return finding


def mend(settings: Settings, finding: Finding) -> list[str]:
    """What --fix says that it did."""
    with LabelStudio(NOWHERE, "0" * 40, 5) as client:
        return fix(settings, client, [finding], lambda line: None)


def test_a_data_folder_that_is_not_there(settings: Settings) -> None:
    finding = look("data-folder", settings)
    assert finding.state == "failed"
    assert "TIEBREAK_DATA_DIR" in finding.mend
    settings.data_dir.mkdir(parents=True)
    assert look("data-folder", settings).state == "ok"
    assert list(settings.data_dir.iterdir()) == []


def test_a_data_folder_that_takes_nothing(small_disk: Path, settings: Settings) -> None:
    full = settings.model_copy(update={"data_dir": small_disk})
    with filled(small_disk):
        finding = look("data-folder", full)
    assert finding.state == "failed"
    assert "No space left" in finding.what
    assert list(small_disk.iterdir()) == []


def test_a_disk_with_little_room(small_disk: Path, settings: Settings) -> None:
    small = settings.model_copy(update={"data_dir": small_disk / "not" / "yet" / "made"})
    finding = look("disk", small)
    assert finding.state == "failed"
    assert "0.0 GB are free" in finding.what
    assert "versions PROJECT --prune" in finding.mend
    free = os.statvfs(settings.data_dir.parent)
    if free.f_bavail * free.f_frsize > 10 * LEAST_FREE:
        assert look("disk", settings).state == "ok"


def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n"
        "server:/team /srv/team nfs4 rw 0 0\n"
        "/dev/sdb /srv/team/fast ext4 rw 0 0\n"
        "//host/share /mnt/two\\040words cifs rw 0 0\n"
    )
    assert file_system(Path("/home/a"), mounts) == "overlay"
    assert file_system(Path("/srv/team"), mounts) == "nfs4"
    assert file_system(Path("/srv/team/data/x"), mounts) == "nfs4"
    assert file_system(Path("/srv/team/fast/x"), mounts) == "ext4"
    assert file_system(Path("/srv/teams"), mounts) == "overlay"
    assert file_system(Path("/mnt/two words/x"), mounts) == "cifs"
    assert file_system(Path("/x"), tmp_path / "none") == ""


def test_files_with_secrets_that_others_may_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.data_dir.mkdir(parents=True)
    own = settings.data_dir / "api-token"
    own.write_text("a-secret-of-the-tests-that-is-long")
    own.chmod(0o640)
    finding = look("secret-files", settings)
    assert (finding.state, finding.fix) == ("failed", "file modes")
    assert f"chmod 600 {own}" in finding.mend
    assert mend(settings, finding) == [f"{own} can be read by its owner only."]
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert look("secret-files", settings).state == "ok"

    mounted = tmp_path / "label-studio-key"
    mounted.write_text("0" * 40)
    mounted.chmod(0o444)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY_FILE", str(mounted))
    warned = look("secret-files", settings)
    assert (warned.state, warned.fix) == ("warning", "")
    assert str(mounted) in warned.what


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "ok", ""),
        ({"step_seconds": 60.0}, "failed", "Set TIEBREAK_STEP_SECONDS to 260 or more."),
        ({"step_seconds": 90.0, "image_timeout": 90.0}, "failed", "to 290 or more."),
        ({"step_seconds": 259.0}, "warning", "Set it to 260 or more."),
        ({"step_seconds": 260.0}, "ok", ""),
        ({"predict_seconds": 100.0}, "failed", "Set it to 80 or less."),
    ],
)
def test_time_limits(settings: Settings, changes: dict[str, float], state: str, words: str) -> None:
    finding = look("timeouts", settings.model_copy(update=changes))
    assert finding.state == state
    assert words in finding.mend


def test_weights_that_are_not_to_be_had(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    packed = settings.model_copy(update={"weights_dir": folder})
    assert look("weights", packed).state == "warning"  # a package carries them
    given = packed.model_copy(update={"backbone": "resnet18"})
    finding = look("weights", given)
    assert (finding.state, finding.fix) == ("failed", "weights")
    name = BACKBONES["resnet18"].pretrained.file_name
    assert name in finding.mend
    assert "TIEBREAK_WEIGHTS_DIR" in finding.mend

    (folder / name).write_bytes(b"not what the name promises")
    assert "not what its name promises" in look("weights", given).what
    (folder / name).unlink()
    (folder / "resnet18.pth").write_bytes(b"somebody's own")
    assert look("weights", given).state == "ok"


def _at_revision(address: str, revision: str) -> None:
    store = Store(address)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    store.close()


def test_a_database_of_an_older_form_is_brought_up_to_date(settings: Settings) -> None:
    missing = look("database", settings)
    assert (missing.state, missing.fix) == ("failed", "database")
    assert not settings.data_dir.exists()
    assert look("trainer", settings).state == "skipped"

    _at_revision(settings.database_address, "head-1")
    finding = look("database", settings)
    assert (finding.state, finding.fix) == ("failed", "database")
    assert f"this program wants {newest_revision()}" in finding.what
    assert mend(settings, finding) == ["The tables were brought to the newest form."]
    assert look("database", settings).state == "ok"


def test_a_database_of_a_newer_program_is_left_alone(settings: Settings, store: Store) -> None:
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    finding = look("database", settings)
    assert (finding.state, finding.fix) == ("failed", "")
    assert "a newer one" in finding.mend


def test_what_is_no_database(settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True)
    (settings.data_dir / "tiebreak.db").write_bytes(b"no database" * 1000)
    finding = look("database", settings)
    assert finding.state == "failed"
    assert finding.mend


def test_a_trainer_that_is_silent(settings: Settings, store: Store) -> None:
    with store.write() as session:
        silent = time.time() - settings.lease_seconds - 1
        session.add(TrainerProcess(owner="somebody", heartbeat_at=silent))
    finding = look("trainer", settings)
    assert finding.state == "failed"
    assert "tiebreak trainer" in finding.mend
    with store.write() as session:
        session.get_one(TrainerProcess, "somebody").heartbeat_at = time.time()
    assert look("trainer", settings).state == "ok"


def test_a_bucket(machine: Machine, settings: Settings) -> None:
    assert look("bucket", settings).state == "ok"
    there = machine("a")
    assert look("bucket", there).state == "ok"
    wrong = there.model_copy(update={"artifacts": "s3://no-such-bucket/team"})
    finding = look("bucket", wrong)
    assert finding.state == "failed"
    assert "no-such-bucket" in finding.what
    assert finding.mend


def test_a_clock_that_is_wrong(
    settings: Settings, small_label_studio: SmallLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = small_label_studio.url
    assert look("clock", settings, url).state == "ok"
    handler: Any = small_label_studio.RequestHandlerClass
    right = handler.date_time_string
    ahead = time.time() + 300
    monkeypatch.setattr(handler, "date_time_string", lambda self: right(self, ahead))
    finding = look("clock", settings, url)
    assert finding.state == "failed"
    seconds = int(finding.what.partition("+")[2].partition(" s")[0])
    assert 295 <= seconds <= 305
    assert "NTP" in finding.mend
    assert look("clock", settings).state == "skipped"


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
