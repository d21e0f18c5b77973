"""How gunicorn runs the server: a few processes of many threads, each with its own model."""

from __future__ import annotations

import math
from importlib import import_module

from backend.gunicorn_worker import Log
from backend.logs import configure_logging
from backend.metrics_files import begin_run
from backend.settings import load_settings

# Loaded once, before the workers part from this process, which then begin in a moment. Libraries
# alone: our own modules are loaded by each worker, so that SIGHUP brings in a new version.
for _library in (
    "defusedxml.ElementTree",
    "flask",
    "httpx",
    "numpy",
    "PIL.Image",
    "pydantic",
    "safetensors.numpy",
    "scipy.linalg",
    "scipy.sparse",
    "scipy.special",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.orm",
):
    import_module(_library)

_settings = load_settings()
configure_logging(_settings, "server")
begin_run(_settings.data_dir, "server")

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = "backend.gunicorn_worker.Worker"
logger_class = Log
threads = _settings.threads
timeout = 120
graceful_timeout = math.ceil(_settings.graceful_seconds)
keepalive = 5
# Files go through our socket, whose answers have a time limit.
sendfile = False
loglevel = _settings.log_level
accesslog = None
control_socket_disable = True
