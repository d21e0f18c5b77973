"""What a log line is about: the request that it answers or follows, and the project.

Kept in a context variable, so that nobody has to hand it through. A new thread begins with none:
:func:`carried` takes it along into the threads of a pool, :func:`exported` into a child process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

VARIABLE = "TIEBREAK_LOG_CONTEXT"
MOST_REQUESTS = 50
"""A look follows all hints that wait, and names the newest of their requests, up to this many."""

Given = TypeVar("Given")
Result = TypeVar("Result")

_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Log lines inside the block carry ``fields``, beside those of the blocks around it."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def note(**fields: Any) -> None:
    """Log lines carry ``fields`` too, until the block around this moment ends."""
    _fields.set({**_fields.get(), **fields})


def following(request_ids: Sequence[str]) -> dict[str, Any]:
    """The fields of what follows these requests, the newest one last; none for none."""
    known = [each for each in request_ids if each][-MOST_REQUESTS:]
    if not known:
        return {}
    return {"request_id": known[-1], "request_ids": known if len(known) > 1 else None}


def log_fields() -> Mapping[str, Any]:
    """The fields of this moment."""
    return _fields.get()


def request_id() -> str:
    """The request that is being answered or followed; empty where there is none."""
    return str(_fields.get().get("request_id") or "")


def carried(work: Callable[[Given], Result]) -> Callable[[Given], Result]:
    """``work`` for the threads of a pool, with the fields of this moment."""
    fields = dict(_fields.get())

    def run(given: Given) -> Result:
        with log_context(**fields):
            return work(given)

    return run


def exported() -> dict[str, str]:
    """The fields of this moment as a variable for a child process's environment."""
    return {VARIABLE: json.dumps(dict(_fields.get()))}


@contextmanager
def imported() -> Iterator[None]:
    """Log lines inside the block carry the fields that the parent process handed over."""
    try:
        fields = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        fields = {}
    with log_context(**(fields if isinstance(fields, dict) else {})):
        yield
