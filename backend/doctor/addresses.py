"""Checks of who reaches whom: this machine Label Studio and the server, with which token."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx

from backend.backend_address import NAME_MEND, refused_name
from backend.doctor.examination import SECONDS, Examination, ask_metrics, health
from backend.doctor.findings import Outcome, Skipped, failed, ok, warning
from backend.errors import LabelStudioUnauthorized, LabelStudioUnreachable
from backend.labelstudio_address import Address
from backend.labelstudio_tokens import API_KEY_MEND

TESTED = "1.23"
MOST_SECONDS_APART = 60.0


def label_studio(exam: Examination) -> Outcome:
    """Label Studio answers this machine."""
    try:
        version = exam.client.version()
    except LabelStudioUnauthorized:
        return ok(f"Label Studio answers at {exam.client.url}")
    except LabelStudioUnreachable as error:
        return failed(error.message, error.mend)
    if version and not version.startswith(f"{TESTED}."):
        return warning(
            f"Label Studio at {exam.client.url} is {version}; Tiebreak is tested with {TESTED}.",
            "Look at whether submits are learned from; if they are, nothing has to be done.",
        )
    return ok(f"Label Studio {version} answers at {exam.client.url}")


def token(exam: Examination) -> Outcome:
    """Label Studio takes the token."""
    kind = exam.client.token_kind
    try:
        who = exam.client.whoami().get("email", "a user without an address")
    except LabelStudioUnauthorized as error:
        mend = API_KEY_MEND
        if "legacy token authentication has been disabled" in error.detail:
            mend = (
                "Label Studio's organisation has switched legacy tokens off. Set "
                "LABEL_STUDIO_API_KEY to a personal access token (Account & Settings), or switch "
                "them on (Organization → API Tokens Settings). Restart `tiebreak serve` and "
                "`tiebreak trainer` after the first."
            )
        said = error.detail.rstrip(".") or error.message.rstrip(".")
        return failed(f"Label Studio refuses the {kind}: {said}.", mend)
    return ok(f"The {kind} of {who} is taken")


def label_studio_time(exam: Examination) -> Outcome:
    """Label Studio's clock is this machine's or close to it."""
    asked = time.time()
    own = Address.parse(exam.client.url).is_loopback
    try:
        answer = httpx.get(f"{exam.client.url}/health", timeout=SECONDS, trust_env=not own)
        date = parsedate_to_datetime(answer.headers["Date"])
    except (httpx.HTTPError, KeyError, ValueError):
        raise Skipped("Label Studio does not say what time it is") from None
    # The header has whole seconds.
    apart = date.timestamp() + 0.5 - (asked + time.time()) / 2
    if abs(apart) > MOST_SECONDS_APART:
        return failed(
            f"Label Studio's clock is {apart:+.0f} s from this machine's.",
            "Let both machines take the time from the network (NTP).",
        )
    return ok("Label Studio's clock agrees with this machine's")


def backend_address(exam: Examination) -> Outcome:
    """The address that Label Studio is given for the backend can be one from there."""
    url = exam.settings.backend_url
    if reason := refused_name(url):
        return failed(reason, NAME_MEND)
    studio = Address.parse(exam.client.url)
    if Address.parse(url).is_loopback and not studio.is_loopback:
        return failed(
            f"The backend's address {url} means, to Label Studio at {exam.client.url}, that "
            "machine itself.",
            "Set TIEBREAK_PUBLIC_URL to the address under which that machine reaches this one, "
            "and TIEBREAK_HOST to 0.0.0.0; then connect again.",
        )
    return ok(f"Label Studio can be given {url}")


def server(exam: Examination) -> Outcome:
    """Our server answers, and has the secrets that this command has."""
    url = exam.settings.backend_url
    try:
        answer = health(exam.server_url)
    except httpx.HTTPError as error:
        return failed(
            f"No server answers at {url} ({error or type(error).__name__}).",
            "Start it: tiebreak serve. If one runs, give TIEBREAK_PORT and TIEBREAK_PUBLIC_URL "
            "the values that it has.",
        )
    if "Tiebreak" not in answer.text:
        return failed(
            f"What answers at {exam.server_url} is not Tiebreak.",
            "Set TIEBREAK_PORT to a port that nothing else uses, and start tiebreak serve again.",
        )
    # The password goes only where the token was known.
    for log_in in (exam.secret("api_token"), (exam.settings.user, exam.secret("password"))):
        if refusal := _refusal(exam.server_url, log_in):
            return refusal
    return ok(f"The server answers at {exam.server_url}, with the same token and password")


def _refusal(url: str, log_in: str | tuple[str, str]) -> Outcome | None:
    """Why our server does not let this command in; None when it does."""
    status = ask_metrics(url, log_in).status_code
    if status == 401:
        which = "API token" if isinstance(log_in, str) else "user or password"
        return failed(
            f"The server at {url} has another {which} than this command.",
            "Give this command the TIEBREAK_DATA_DIR, the TIEBREAK_PASSWORD and the other settings "
            "of the server; a server that was given new ones has to be restarted.",
            why="It has another data folder or other settings, so nothing that is connected from "
            "here will be let in.",
        )
    if status != 200:
        return failed(
            f"The server at {url} answered {status} to a look at its counts.",
            "Its log says why.",
        )
    return None
