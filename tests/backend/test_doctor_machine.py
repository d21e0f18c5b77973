"""The doctor's checks of this machine and its storage, on faults that are really there."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from backend.doctor.machine import LEAST_FREE, file_system
from backend.settings import Settings
from backend.store import MIGRATIONS, Store, newest_revision
from backend.tables import TrainerProcess
from model.backbones import BACKBONES
from tests.backend.buckets import Machine
from tests.backend.doctors import look, mend, no_network
from tests.backend.small_label_studio import SmallLabelStudio
from tests.backend.test_full_disk import filled, small_disk

__all__ = ["no_network", "small_disk"]

NOBODY = 65534


@pytest.fixture
def database() -> None:
    """SQLite, a file of the data folder."""


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


@contextmanager
def not_ours() -> Iterator[Path]:
    """A folder that this process may not search: it is closed, or belongs to root."""
    root = os.getuid() == 0
    # Not below pytest's own folder, which another user may not enter.
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700 if root else 0)
        Path(folder).chmod(0o755)
        try:
            if root:
                os.seteuid(NOBODY)
            yield data
        finally:
            if root:
                os.seteuid(0)
            data.chmod(0o700)


def test_a_data_folder_of_another_user(settings: Settings) -> None:
    with not_ours() as folder:
        finding = look("data-folder", settings.model_copy(update={"data_dir": folder}))
    assert finding.state == "failed"
    assert f"into the data folder {folder} (Permission denied)" in finding.what
    assert "Make it writable for the user that Tiebreak runs as" in finding.mend


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
