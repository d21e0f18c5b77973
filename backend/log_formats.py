"""A log record as a line for people, or as one JSON object for programs. Neither has secrets."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from backend.log_context import log_fields
from backend.log_secrets import scrubbed


class TextFormatter(logging.Formatter):
    """Time, level, room and message, with the request where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = log_fields()
        more = len(fields.get("request_ids") or [None]) - 1
        number = fields.get("request_id")
        record.request = f" [{number}{f' +{more}' if more else ''}]" if number else ""
        return scrubbed(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``docs/logs.md`` has the fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = log_fields()
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrubbed(record.getMessage()),
            "request_id": fields.get("request_id"),
            "project": fields.get("project"),
            "process": self._process,
            "pid": record.process,
        }
        if fields.get("request_ids"):
            line["request_ids"] = fields["request_ids"]
        if record.exc_info:
            line["traceback"] = scrubbed(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = scrubbed(self.formatStack(record.stack_info))
        return json.dumps(line, ensure_ascii=False)


def _utc(seconds: float) -> str:
    """RFC 3339 with microseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1e6):06d}Z"
