"""What commands learn from a running ``tiebreak up`` in the same data folder."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from backend.settings import Settings, label_studio_access, load_settings
from backend.what_is_up import ADDRESSES, CREDENTIALS, LOCK, told

URL = "http://127.0.0.1:8123"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "TIEBREAK_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(tmp_path))
    (tmp_path / CREDENTIALS).write_text(json.dumps({"api_key": "k" * 40}))
    return tmp_path


def test_commands_go_to_what_is_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings()
    assert (before.label_studio_url, before.port) == (None, 9090)
    with (folder / LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with told(folder, label_studio_url=URL, own=True, host="127.0.0.1", port=9391):
            found = load_settings()
            assert label_studio_access(found) == (URL, "k" * 40)
            assert (found.host, found.port) == ("127.0.0.1", 9391)
            assert "k" * 40 not in (folder / ADDRESSES).read_text()
            # What somebody names goes first: a setting of its own, and another Label Studio whole.
            monkeypatch.setenv("TIEBREAK_PORT", "9555")
            assert load_settings().port == 9555
            monkeypatch.delenv("TIEBREAK_PORT")
            monkeypatch.setenv("LABEL_STUDIO_URL", "http://labels.example")
            other = load_settings()
            assert (other.label_studio_api_key, other.port) == (None, 9090)
            assert Settings(label_studio_url=URL).port == 9090
            monkeypatch.delenv("LABEL_STUDIO_URL")
        assert load_settings() == before


def test_a_label_studio_of_somebody_else_keeps_its_token_to_itself(folder: Path) -> None:
    with (folder / LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with told(folder, label_studio_url=URL, own=False, host="127.0.0.1", port=9391):
            found = load_settings()
            assert (found.label_studio_url, found.label_studio_api_key) == (URL, None)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"label_studio_url": "http://x"}', None])
def test_what_a_killed_one_left_is_of_no_use(folder: Path, content: str | None) -> None:
    whole = {"label_studio_url": URL, "own": True, "host": "127.0.0.1", "port": 9391}
    (folder / ADDRESSES).write_text(json.dumps(whole) if content is None else content)
    (folder / LOCK).write_text("1\n")
    assert load_settings().label_studio_url is None
    with (folder / LOCK).open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert (load_settings().label_studio_url == URL) is (content is None)
