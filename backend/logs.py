"""How every process logs."""

from __future__ import annotations

import logging
import sys

from backend.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Log lines on standard error, with time, level and room."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # The first two log the address of every request, query strings with signatures included.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
