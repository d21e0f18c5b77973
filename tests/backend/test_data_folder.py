"""The commands with a data folder that they cannot use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from backend.cli import app
from backend.secrets import log_in
from backend.settings import load_settings
from model.errors import StorageError
from tests.tiebreak_process import NOWHERE, REPOSITORY

POWERS = "-dac_override,-dac_read_search"
ORDINARY = ("setpriv", "--bounding-set", POWERS, "--inh-caps", POWERS)
"""Before a command: permissions of files count for it, as they do not for root."""


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that is there, and that nobody may use."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    yield folder
    folder.chmod(0o700)


LOOKING = (
    ("status",),
    ("versions", "1"),
    ("explain", "image.png"),
    ("export", "1", "--to", "exported"),
    ("train", "1"),
    ("rollback", "1"),
)


def tiebreak(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that is run with that data folder, as somebody to whom permissions apply."""
    root = os.geteuid() == 0
    if root and not shutil.which("setpriv"):
        pytest.skip("root may read and write everything")
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "HTTPS_PROXY": NOWHERE,
        "LABEL_STUDIO_URL": NOWHERE,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "TIEBREAK_DATA_DIR": str(folder),
    }
    command = [*(ORDINARY if root else ()), sys.executable, "-m", "backend.cli", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("mode", [0, 0o500])
def test_a_password_that_cannot_be_kept_is_a_sentence(closed: Path, mode: int) -> None:
    closed.chmod(mode)
    done = tiebreak(closed, "password")
    assert done.returncode == 1
    assert f"{closed}/password cannot be used (Permission denied)." in done.stderr
    assert f"as the user that owns {closed}, or set TIEBREAK_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_data_folder_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load_settings(data_dir=tmp_path / "file" / "data", password=None)
    with pytest.raises(StorageError, match="Not a directory") as raised:
        log_in(settings)
    assert str(settings.data_dir) in raised.value.mend


def test_the_doctor_of_a_data_folder_that_is_closed(closed: Path) -> None:
    done = tiebreak(closed, "doctor", "--json")
    assert done.returncode == 1
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    for check in ("data-folder", "database"):
        assert found[check]["state"] == "failed"
        assert str(closed) in found[check]["what"]
        assert "user that" in found[check]["mend"] or "as that user" in found[check]["mend"]
    assert found["secret-files"]["what"] == "Not looked at: see data-folder"
    assert found["trainer"]["what"] == "Not looked at: see database"
    assert not [f for f in found.values() if "The check itself broke" in f["what"]]


@pytest.mark.parametrize("arguments", LOOKING, ids=lambda arguments: str(arguments[0]))
def test_a_command_that_looks_makes_no_data_folder(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("TIEBREAK_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert f"no database in the data folder {tmp_path}/.tiebreak yet." in said
    assert "run this in the same folder as them, or set TIEBREAK_DATA_DIR" in said
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_the_doctor_makes_no_data_folder(tmp_path: Path) -> None:
    done = tiebreak(tmp_path / "none", "doctor", "--json")
    assert done.returncode == 1
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert f"no database in {tmp_path}/none yet" in found["database"]["what"]
    assert list(tmp_path.iterdir()) == []
