"""How gunicorn runs the server: a few processes of many threads, each with its own model."""

from __future__ import annotations

import math

from backend.settings import load_settings

_settings = load_settings()

bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
worker_class = "backend.draining.DrainingWorker"
threads = _settings.threads
timeout = 120
graceful_timeout = math.ceil(_settings.graceful_seconds)
keepalive = 5
loglevel = _settings.log_level
accesslog = None
control_socket_disable = True
