"""Checks of a project's rows in Label Studio's Settings → Model."""

from __future__ import annotations

from backend.connect import BACKEND_TITLE
from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, failed, ok, warning
from backend.errors import LabelStudioNotFound, LabelStudioUnauthorized
from backend.labelstudio import Backend
from backend.labelstudio_address import is_same_address

ALIVE = ("Connected", "Training", "Predicting")


def project(exam: Examination) -> Outcome:
    """The token's user sees the project and may change it: an update without content shows it."""
    number = exam.project_id
    try:
        title = exam.client.project(number).title
        exam.client.update_project(number)
    except LabelStudioNotFound:
        return failed(
            f"Label Studio has no project {number} that the token's user can see.",
            "Use a token of a member of the project's organisation; if the project was deleted, "
            "nothing has to be done.",
        )
    except LabelStudioUnauthorized as error:
        said = (error.detail or error.message).rstrip(".")
        return failed(
            f"The token's user may not change project {number}: {said}.",
            "Use a token of a user who may change the project's settings, and restart `tiebreak "
            "serve` and `tiebreak trainer`.",
        )
    return ok(f"“{title}” can be read and changed")


def backend(exam: Examination) -> Outcome:
    """Label Studio reaches the backend at its address, logs in, and is let do so."""
    url, number = exam.settings.backend_url, exam.project_id
    own, _ = own_and_others(exam)
    connect = f"tiebreak connect {number}"
    if not own:
        return failed(
            f"No backend with the address {url} is connected to the project.",
            f"{connect}, or give --fix.",
            fix="reconnect",
        )
    row = exam.client.probe_backend(own[0].id)
    if row.readable_state in ALIVE and row.auth_method == "BASIC_AUTH":
        return ok(f"Label Studio reaches {row.url} and logs in")
    if row.readable_state in ALIVE or row.auth_method != "BASIC_AUTH":
        return failed(
            f"Label Studio sends no user and password to {row.url}.",
            f"{connect}, or give --fix.",
            fix="reconnect",
        )
    if row.readable_state == "Disconnected":
        return _disconnected(exam, row)
    said = (row.error_message or "it does not say why")[:300].rstrip(".")
    return failed(
        f"The backend refuses what Label Studio asks of it: {said}.",
        f"{connect}, or give --fix; if that does not help, the server's log says why.",
        fix="reconnect",
    )


def _disconnected(exam: Examination, row: Backend) -> Outcome:
    refusal = exam.client.backend_refusal(exam.project_id, row)
    if refusal is None:
        return warning(
            f"Label Studio did not reach {row.url}, and a moment later it did.",
            "Look again; if it comes back, see how busy the backend's machine is.",
            why="It waits one second for the backend.",
        )
    return failed(refusal.message, refusal.mend or "Label Studio's log says why.")


def stale_backends(exam: Examination) -> Outcome:
    """No row of Tiebreak's is there twice, or leads to an address where it no longer is."""
    own, others = own_and_others(exam)
    doubled, dead = own[1:], dead_backends(others)
    if doubled or dead:
        shown = ", ".join(f"{each.url} (row {each.id})" for each in (*doubled, *dead))
        return failed(
            f"Settings → Model has rows of Tiebreak's that are no longer good: {shown}.",
            "Delete them there, or give --fix.",
            fix="orphans",
        )
    if alive := [each for each in others if each.title == BACKEND_TITLE]:
        return warning(
            f"Another Tiebreak is connected to the project as well: {alive[0].url}.",
            "Delete one of the two in Settings → Model; if it is an old address of this one, set "
            "TIEBREAK_PUBLIC_URL to the address that is right.",
            why="Two of them would set Label Studio's order in turns.",
        )
    return ok("No old or doubled backends")


def own_and_others(exam: Examination) -> tuple[list[Backend], list[Backend]]:
    """The project's backends with our address, and the others."""
    url = exam.settings.backend_url
    own = [each for each in exam.backends if is_same_address(each.url, url)]
    return own, [each for each in exam.backends if each not in own]


def dead_backends(others: list[Backend]) -> list[Backend]:
    """Those that Tiebreak made at an address where nothing answers any more."""
    return [
        each for each in others if each.title == BACKEND_TITLE and each.readable_state not in ALIVE
    ]
