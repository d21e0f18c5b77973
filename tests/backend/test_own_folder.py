"""A folder is made whole or not at all, and nothing of others is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backend.errors import SetupError
from backend.own_folder import MARK, OwnFolder, own_folder
from model.errors import StorageError


def _make(to: Path, kind: str = "labels", **files: str) -> None:
    with own_folder(to, kind) as folder:
        for name, text in files.items():
            folder.write(name, text.encode())


def test_the_folder_lists_what_is_in_it(tmp_path: Path) -> None:
    with own_folder(tmp_path / "deep" / "out", "labels") as folder:
        folder.write("a/b.txt", b"b")
        folder.same("c/b.txt", "a/b.txt")
        folder.description["project"] = 3
        assert not (tmp_path / "deep" / "out").exists()
    mark = json.loads((tmp_path / "deep" / "out" / MARK).read_text())
    files = ["a/b.txt", "c/b.txt"]
    assert mark == {"tiebreak_export": 1, "kind": "labels", "project": 3, "files": files}
    assert (tmp_path / "deep" / "out" / "c" / "b.txt").read_bytes() == b"b"
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_an_export_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    _make(tmp_path / "out", a="1", b="1")
    _make(tmp_path / "out", a="2")
    assert sorted(os.listdir(tmp_path / "out")) == ["a", MARK]
    assert (tmp_path / "out" / "a").read_text() == "2"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    _make(tmp_path / "out", a="1")

    def fail(folder: OwnFolder) -> None:
        folder.write("a", b"2")
        raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"), own_folder(tmp_path / "out", "labels") as new:
        fail(new)
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("what", ["file", "folder", "other kind", "added", "link", "no json"])
def test_what_is_not_its_own_is_left_alone(tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif what == "no json":
        out.mkdir()
        (out / MARK).write_text("[]")
    else:
        _make(out, "model" if what == "other kind" else "labels", a="1")
    if what == "added":
        (out / "notes.txt").write_text("mine")
    elif what == "link":
        (out / "linked").symlink_to(tmp_path)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(SetupError, match="Give --to a folder that is not there yet"):
        _make(out, a="2")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_file_that_comes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(folder: OwnFolder) -> None:
        folder.write("a", b"1")
        out.mkdir()
        (out / "mine.txt").write_text("mine")

    with pytest.raises(SetupError, match="no earlier export"), own_folder(out, "labels") as folder:
        write(folder)
    assert os.listdir(out) == ["mine.txt"]
    assert os.listdir(tmp_path) == ["out"]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _make(tmp_path / "out", a="1")
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="The export"):
        _make(tmp_path / "file" / "out", a="1")
