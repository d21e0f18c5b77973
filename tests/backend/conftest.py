"""Fixtures of the backend's tests: settings in a temporary folder, a real SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.settings import Settings
from backend.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that touch nothing outside the test's folder. Label Studio is not there."""
    return Settings(
        data_dir=tmp_path / "data",
        label_studio_url="http://127.0.0.1:9",
        label_studio_api_key="0" * 40,
        database_url=None,
        webhook_secret="secret-of-the-test",
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A migrated database."""
    made = Store(settings.database_address)
    made.migrate()
    yield made
    made.close()
