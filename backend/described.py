"""What a view takes and answers, said beside the view, for :mod:`backend.openapi`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from backend.payloads import Payload

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "openapi_description"


@dataclass(frozen=True)
class Description:
    """What a view takes and answers.

    ``answer``  model of the JSON that it answers; None for another ``media`` type
    ``body``    model of the JSON that it takes; None for a view without a body
    ``query``   name of a query parameter → its JSON schema
    ``errors``  statuses that this view answers beside those that every one may
    ``open``    no credentials are needed
    """

    answer: Any = None
    body: type[Payload] | None = None
    media: str = "application/json"
    query: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    open: bool = False


def described(description: Description) -> Callable[[View], View]:
    """Say what the view below takes and answers."""

    def keep(view: View) -> View:
        setattr(view, _ATTRIBUTE, description)
        return view

    return keep


def description_of(view: Callable[..., Any]) -> Description:
    """What was said beside a view; AttributeError where nothing was."""
    found: Description = getattr(view, _ATTRIBUTE)
    return found
