"""How gunicorn runs the server: one process, many threads, one model in memory."""

from __future__ import annotations

from backend.settings import load_settings

_settings = load_settings()

bind = f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "backend.slow_clients.HurriedWorker"
threads = _settings.threads
timeout = 120
graceful_timeout = 30
keepalive = 5
loglevel = _settings.log_level
accesslog = None
control_socket_disable = True
