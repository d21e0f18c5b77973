"""Errors of what talks, below :class:`model.errors.TiebreakError`.

::

    TiebreakError
    ├── SettingsError            a setting has a value that cannot be used
    ├── LabelConfigError         a labelling config that cannot be read or has nothing to learn
    ├── DataError                labelled images for an experiment cannot be read or used
    ├── ImageError               an image cannot be had (``retry`` says whether later may differ)
    ├── LabelStudioError         Label Studio answered with an error
    │   ├── LabelStudioUnreachable   no answer: down, restarting, wrong address, too slow
    │   ├── LabelStudioUnauthorized  the token is refused or expired
    │   ├── LabelStudioNotFound      the project, task or route does not exist
    │   └── BackendRefused           Label Studio refuses to talk to the backend's address
    ├── EngineError              the machines that heavy work runs on cannot be reached or used
    ├── LeaseLost                another trainer took the project over
    └── SetupError               something the front door needs is missing
"""

from __future__ import annotations

from model.errors import TiebreakError


class SettingsError(TiebreakError):
    """A setting has a value that cannot be used; the message names the variable and the value."""


class LabelConfigError(TiebreakError):
    """A labelling config that cannot be read, or that has nothing Tiebreak can learn."""


class DataError(TiebreakError):
    """Labelled images for an experiment cannot be read or used; the message says which and why."""


CAUSES = (
    "address refused",
    "unreachable",
    "timeout",
    "unauthorized",
    "answer",
    "too large",
    "label studio",
    "disk",
    "download",
    "decode",
)
"""Why an image cannot be had, as it is counted; the last two where nothing narrower is known."""


class ImageError(TiebreakError):
    """An image cannot be had. ``cause`` is one of :data:`CAUSES`, or empty.

    ``retry`` is true when trying again later may succeed (a time-out, a 5xx), false when it
    cannot (not an image, too large, an address that is not allowed).
    """

    def __init__(self, message: str, *, retry: bool, mend: str = "", cause: str = "") -> None:
        super().__init__(message, mend=mend)
        self.retry = retry
        self.cause = cause


class NotEnoughMemory(ImageError):
    """An image takes more memory than there may be, now; nothing is said of its bytes."""


class LabelStudioError(TiebreakError):
    """Label Studio answered with an error.

    ``status`` is the HTTP status, 0 without an answer; ``detail`` is what Label Studio said.
    """

    def __init__(self, message: str, *, status: int = 0, mend: str = "", detail: str = "") -> None:
        super().__init__(message, mend=mend)
        self.status = status
        self.detail = detail


class LabelStudioUnreachable(LabelStudioError):
    """No answer from Label Studio: it is down, restarting, too slow, or the address is wrong."""


class LabelStudioUnauthorized(LabelStudioError):
    """Label Studio refuses the token."""


class LabelStudioNotFound(LabelStudioError):
    """What was asked for does not exist in Label Studio, or the token may not see it."""


class BackendRefused(LabelStudioError):
    """Label Studio refuses to connect to the backend's address (its SSRF protection)."""


class SetupError(TiebreakError):
    """Something the front door needs is missing; ``mend`` says how to get it."""


class EngineError(TiebreakError):
    """The machines that heavy work runs on cannot be reached or used, or gave up.

    Nothing is wrong with the work: the same goes well once they are back.
    """


class LeaseLost(TiebreakError):
    """Another trainer took the project over while this one was silent."""
