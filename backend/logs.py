"""How every process logs."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from backend.log_formats import JsonFormatter, TextFormatter
from backend.log_secrets import hide_settings
from backend.settings import Settings

log = logging.getLogger(__name__)


def configure_logging(settings: Settings, process: str) -> None:
    """Log on standard error as ``TIEBREAK_LOG_FORMAT`` says; again, where it is done already.

    ``process`` says in each JSON line which kind of process speaks.
    """
    hide_settings(settings)
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(process) if settings.log_format == "json" else TextFormatter()
    )
    root = logging.getLogger()
    for before in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    # The first two log the address of every request, query strings with signatures included.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = _thread_died


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Ours, told from those of others by its class."""


def _died(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        log.critical("the process ends: %s", kind.__name__, exc_info=(kind, error, traceback))


def _thread_died(died: threading.ExceptHookArgs) -> None:
    if died.exc_value is not None:
        log.critical(
            "thread %s ends: %s",
            died.thread.name if died.thread else "?",
            died.exc_type.__name__,
            exc_info=(died.exc_type, died.exc_value, died.exc_traceback),
        )
