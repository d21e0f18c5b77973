"""The secrets of an installation in containers: made once, and an admin's own left alone."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "docker" / "make_secrets.py"
NAMES = ("database_url", "label_studio_password", "label_studio_token", "postgres_password")
ROOT = os.geteuid() == 0
SOMEBODY = 1000
"""A user of the machine who is neither root nor that of the containers."""
make: Callable[[Path, Path, str], None] = runpy.run_path(str(SCRIPT))["make"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two empty ones, as new volumes are."""
    for name in ("ours", "database"):
        (tmp_path / name).mkdir()
    return tmp_path / "ours", tmp_path / "database"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An admin's own folder with all four files."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"my {name}")
    return folder


def hand_over(folder: Path, user: int, mode: int, file_mode: int) -> None:
    """Give a folder with its files these modes and, where root runs the tests, this owner."""
    for path in (*folder.iterdir(), folder):
        path.chmod(mode if path == folder else file_mode)
        if ROOT:
            os.chown(path, user, user)


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Owner, group and mode of a folder and of what is in it."""
    found = {path: path.stat() for path in (folder, *folder.iterdir())}
    return {path: (s.st_uid, s.st_gid, s.st_mode & 0o777) for path, s in found.items()}


def run(ours: Path, database: Path) -> subprocess.CompletedProcess[str]:
    variables = {"SECRETS_FOLDER": str(ours), "DATABASE_SECRETS_FOLDER": str(database)}
    command, environment = [sys.executable, str(SCRIPT)], os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_secrets_are_made_once(folders: tuple[Path, Path]) -> None:
    ours, database = folders
    said = run(ours, database).stderr
    made = {path: path.read_text() for path in [*ours.iterdir(), *database.iterdir()]}
    assert tuple(sorted(path.name for path in made)) == NAMES
    assert not any(secret in said for secret in made.values())
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o755]
    assert {path.stat().st_mode & 0o777 for path in ours.iterdir()} == {0o400}
    assert {path.stat().st_mode & 0o777 for path in database.iterdir()} == {0o444}
    assert {path.stat().st_uid for path in made} == {10001 if ROOT else os.geteuid()}
    password = made[database / "postgres_password"]
    assert f":{password}@postgres/" in made[ours / "database_url"]
    (ours / "label_studio_token").unlink()
    run(ours, database)
    again = {path: path.read_text() for path in made}
    assert again.pop(ours / "label_studio_token") != made.pop(ours / "label_studio_token")
    assert again == made


def test_a_whole_folder_stays_as_it_is(own: Path) -> None:
    hand_over(own, 10001, 0o500, 0o400)
    before = state(own)
    make(own, own, "postgres")
    assert state(own) == before
    assert all(path.read_text() == f"my {path.name}" for path in own.iterdir())


def test_a_file_that_nobody_may_read_is_named(own: Path) -> None:
    hand_over(own, SOMEBODY, 0o755, 0o444)
    (own / "database_url").chmod(0)
    before = state(own)
    with pytest.raises(SystemExit) as ended:
        make(own, own, "postgres")
    reader, owner = (10001, SOMEBODY) if ROOT else (os.geteuid(),) * 2
    first, last = str(ended.value).splitlines()
    assert first == (
        f"the user {reader} cannot read {own}/database_url: owner {owner}, mode 0000; "
        f"its folder: owner {owner}, mode 0755"
    )
    assert last.startswith(f"Make the user {reader} the owner of folder and files: docs/docker.md")
    assert state(own) == before


@pytest.mark.skipif(not ROOT, reason="only root can give a folder away")
def test_a_private_folder_of_somebody_is_refused_untouched(own: Path) -> None:
    hand_over(own, SOMEBODY, 0o700, 0o444)
    (own / "label_studio_token").unlink()
    before = state(own)
    with pytest.raises(SystemExit, match=r"user 10001 cannot read .*: owner 1000, mode 0700"):
        make(own, own, "postgres")
    assert state(own) == before


@pytest.mark.skipif(not ROOT, reason="only root has a folder of root's to give away")
def test_an_empty_folder_of_root_becomes_the_users(folders: tuple[Path, Path]) -> None:
    make(*folders, "postgres")
    assert [(s.st_uid, s.st_gid) for s in map(Path.stat, folders)] == [(10001, 10001)] * 2


def test_what_is_missing_is_put_into_a_folder_of_somebody(own: Path) -> None:
    hand_over(own, SOMEBODY, 0o755, 0o444)
    (own / "database_url").unlink()
    before = state(own)
    make(own, own, "elsewhere")
    after = state(own)
    assert after.pop(own / "database_url")[2] == 0o400
    assert after == before
    assert (own / "database_url").read_text().endswith(":my postgres_password@elsewhere/tiebreak")


def test_what_cannot_be_made_is_named(own: Path) -> None:
    hand_over(own, SOMEBODY, 0o755, 0o444)
    (own / "database_url").unlink()
    # Modes do not stop root, but a folder that stands in the way does.
    (own / ".database_url.partial").mkdir()
    with pytest.raises(SystemExit, match=r"^cannot make \S+/database_url: .*\.partial'\. Put"):
        make(own, own, "postgres")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not there")
@pytest.mark.skipif(not ROOT, reason="only root can give capabilities up")
def test_the_capabilities_of_the_compose_file_are_enough(folders: tuple[Path, Path]) -> None:
    service = yaml.safe_load((SCRIPT.parents[1] / "docker-compose.yml").read_text())["services"]
    kept = ",".join(["-all", *(f"+{c.lower()}" for c in service["make-secrets"]["cap_add"])])
    ours, database = folders
    variables = {"SECRETS_FOLDER": str(ours), "DATABASE_SECRETS_FOLDER": str(database)}
    given_up = ["setpriv", "--no-new-privs", f"--bounding-set={kept}", f"--inh-caps={kept}"]
    command = [*given_up, sys.executable, str(SCRIPT)]
    for _ in range(2):
        subprocess.run(command, env=os.environ | variables, check=True)
