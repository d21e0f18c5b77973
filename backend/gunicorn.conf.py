"""How gunicorn runs the server: one process, many threads, one model in memory."""

from __future__ import annotations

from backend.gunicorn_worker import Log
from backend.logs import configure_logging
from backend.metrics_files import begin_run
from backend.settings import load_settings

_settings = load_settings()
configure_logging(_settings, "server")
begin_run(_settings.data_dir, "server")

bind = f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "backend.gunicorn_worker.Worker"
logger_class = Log
threads = _settings.threads
timeout = 120
graceful_timeout = 30
keepalive = 5
loglevel = _settings.log_level
accesslog = None
control_socket_disable = True
