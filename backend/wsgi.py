"""The WSGI entry point that gunicorn loads; settings come from the environment."""

from __future__ import annotations

from backend.app import create_app
from backend.logs import configure_logging
from backend.metrics_files import share_counts
from backend.settings import load_settings

_settings = load_settings()
configure_logging(_settings, "server")
share_counts()
app = create_app(_settings)
