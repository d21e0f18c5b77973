"""A bucket that is named later: what is here goes there, also when it is away at first."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from backend import sharing
from backend.settings import Settings
from backend.trainer import Trainer
from tests.backend.buckets import Machine
from tests.backend.conftest import Tables
from tests.backend.saved_versions import save_version
from tests.s3_server import S3Server

COPY = "ab" * 32
LONG = 60.0
"""Only a test that fails waits so long."""


@pytest.fixture
def trainer(tables: Tables, settings: Settings, machine: Machine) -> Trainer:
    """Machine a's, which made v1 and a working copy before there was a bucket."""
    save_version(tables, machine("a"), 1)
    place = machine("a").working_copies / "ab"
    place.mkdir(parents=True)
    (place / f"{COPY}.png").write_bytes(b"a copy")
    database = {"database_url": SecretStr(settings.database_address)}
    return Trainer(machine("a").model_copy(update=database))


def _close(trainer: Trainer) -> None:
    trainer.tools.fetcher.close()
    trainer.tools.client.close()
    trainer.tools.store.close()


def test_a_trainer_tries_until_the_bucket_is_there(
    trainer: Trainer, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "FIRST_WAIT", 0.001)
    s3.refusal = "AccessDenied"

    def look(method: str, path: str) -> None:
        if len(s3.asked) >= 4:
            s3.refusal = ""

    s3.before = look
    thread = threading.Thread(target=trainer._share, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    names = [key.rpartition("/")[2] for key in s3.all_keys()]
    assert names == ["heads.safetensors", "model.json", COPY]
    assert s3.read(f"team/images/ab/{COPY}") == b"a copy"
    _close(trainer)


def test_a_trainer_that_stops_tries_no_more(
    trainer: Trainer, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "FIRST_WAIT", 1e6)
    s3.refusal = "AccessDenied"
    asked = threading.Event()
    s3.before = lambda method, path: asked.set()
    thread = threading.Thread(target=trainer._share, daemon=True)
    thread.start()
    assert asked.wait(LONG)
    trainer.stop()
    thread.join(LONG)
    assert not thread.is_alive()
    _close(trainer)
