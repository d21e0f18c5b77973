"""`tiebreak serve` where it cannot serve: a sentence at the start, and no gunicorn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import SetupError
from backend.listening import require_free
from tests.tiebreak_process import free_port, start, variables_of


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def _end(folder: Path, **others: str) -> tuple[int, str]:
    """How ``tiebreak serve`` ends, and all that it says."""
    log = folder / "server.log"
    process = start("serve", log, variables_of(folder, free_port(), **others))
    return process.wait(120), log.read_text()


def test_a_free_port_stays_free() -> None:
    port = free_port()
    require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)
    require_free("", port)


def test_a_port_that_is_taken_is_named(taken: int) -> None:
    with pytest.raises(SetupError, match=f"127.0.0.1:{taken}: another program") as raised:
        require_free("127.0.0.1", taken, seconds=0)
    assert "TIEBREAK_PORT" in raised.value.mend


def test_a_port_that_is_let_go_of_is_waited_for() -> None:
    other = socket.create_server(("127.0.0.1", 0))
    letting_go = threading.Timer(0.5, other.close)
    letting_go.start()
    require_free("127.0.0.1", other.getsockname()[1], seconds=60)
    letting_go.join()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(SetupError, match="Cannot assign requested address") as raised:
        require_free("192.0.2.1", free_port())
    assert "TIEBREAK_HOST" in raised.value.mend


def test_a_port_that_is_taken_ends_the_server_with_a_mend(tmp_path: Path, taken: int) -> None:
    code, said = _end(tmp_path, TIEBREAK_PORT=str(taken))
    assert code == 1
    assert "set TIEBREAK_PORT to a port that is free" in said
    assert "Connection in use" not in said


def test_a_data_folder_that_is_a_file_ends_the_server_with_a_mend(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, said = _end(tmp_path, TIEBREAK_DATA_DIR=str(file))
    assert code == 1
    assert (
        f"error: The database cannot be written to {file}/tiebreak.db ({file} is a file)." in said
    )
    assert "by itself" not in said
    assert "Traceback" not in said
    assert "Listening" not in said
