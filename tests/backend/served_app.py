"""An app on settings that touch nothing outside a folder, and who logs in to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.settings import Settings
from backend.store import Store
from tests.callers import API_TOKEN, PASSWORD, WEBHOOK_SECRET, logged_in
from tests.tiebreak_process import NOWHERE


def settings_in(folder: Path, *, database_url: str | None = None, **others: Any) -> Settings:
    """Settings that touch nothing outside ``folder``. Label Studio is not there.

    Torch runs the networks, which is ready at once; the tests of OpenVINO ask for it. No image is
    blind where a test does not ask for it, so that all but the audit images are ticked.
    """
    return Settings(
        runtime=others.pop("runtime", "torch"),
        blind_share=others.pop("blind_share", 0.0),
        data_dir=folder / "data",
        label_studio_url=NOWHERE,
        label_studio_api_key="0" * 40,
        database_url=database_url,
        password=PASSWORD,
        api_token=API_TOKEN,
        webhook_secret=WEBHOOK_SECRET,
        **others,
    )


@contextlib.contextmanager
def client_of(settings: Settings) -> Iterator[FlaskClient]:
    """A client that logs in to an app of its own, which is closed in the end."""
    app = create_app(settings)
    try:
        with logged_in(app) as client:
            yield client
    finally:
        app.extensions["tiebreak"].trials.close()
        app.extensions["tiebreak"].store.close()


@pytest.fixture
def client(settings: Settings, store: Store) -> Iterator[FlaskClient]:
    """A client that logs in to an app on the test's database."""
    with client_of(settings) as made:
        yield made
