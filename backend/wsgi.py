"""The WSGI entry point that gunicorn loads; settings come from the environment."""

from __future__ import annotations

from backend.app import create_app
from backend.settings import load_settings

app = create_app(load_settings())
