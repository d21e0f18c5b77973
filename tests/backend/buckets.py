"""A bucket, and machines that share it and one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.settings import Settings
from backend.shared_files import SharedFiles, shared_files
from tests.s3_server import ACCESS, BUCKET, S3Server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    """An S3 server with an empty bucket, and the keys to it in the environment."""
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    # What the machine itself knows of AWS is none of a test's business.
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = S3Server()
    server.start()
    yield server
    server.stop()


Machine = Callable[[str], Settings]


@pytest.fixture
def machine(s3: S3Server, settings: Settings, tmp_path: Path) -> Machine:
    """``machine("a")``: the settings of a machine with a data folder of its own."""

    def made(name: str) -> Settings:
        return settings.model_copy(
            update={
                "data_dir": tmp_path / name,
                "artifacts": f"s3://{BUCKET}/team",
                "s3_endpoint": s3.url,
            }
        )

    return made


@pytest.fixture
def shared(machine: Machine) -> SharedFiles:
    """The bucket, as Tiebreak sees it."""
    found = shared_files(machine("any"))
    assert found is not None
    return found
