"""One call to Label Studio: the token, the retries, and errors that say what to do.

What is repeated: a call that never reached Label Studio (no connection could be made), always; a
GET, PATCH or DELETE whose connection broke or that got a 5xx, twice. A POST that may have arrived
is never sent again, so nothing is created twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from backend.errors import (
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioUnauthorized,
    LabelStudioUnreachable,
)
from backend.labelstudio_address import Address
from backend.labelstudio_tokens import API_KEY_MEND, Credentials

logger = logging.getLogger(__name__)

_REPEATABLE = frozenset({"GET", "HEAD", "PATCH", "DELETE"})
_BUSY = frozenset({500, 502, 503, 504})
_DOWN = frozenset({502, 503, 504})
_REDIRECTS = 3
_CONNECT_SECONDS = 10.0
_SHOWN_CHARACTERS = 300
_KEPT_CHARACTERS = 20_000
_REACH_MEND = "Check that Label Studio runs, and LABEL_STUDIO_URL."


class Transport:
    """HTTP to one Label Studio. Safe to share between threads.

    ``timeout`` is seconds for each wait; ``back_off`` the seconds before each further try;
    ``on_answer`` is called after each answer.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        timeout: float = 60.0,
        back_off: Sequence[float] = (0.2, 0.6),
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = Address.parse(url)
        self.timeout = timeout
        self.credentials = Credentials(api_key, self.access_token)
        self._back_off = tuple(back_off)
        self._on_answer = on_answer
        self._client = httpx.Client(
            timeout=self._limits(timeout),
            follow_redirects=False,
            trust_env=not self.address.is_loopback,
        )

    def __repr__(self) -> str:
        return f"<Transport to {self.address.url}>"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """JSON of a GET."""
        return self.call("GET", path, params=params)

    def call(
        self, method: str, path: str, *, timeout: float | None = None, **arguments: Any
    ) -> Any:
        """JSON of one call; None when the answer is empty.

        ``path`` starts with a slash and is relative to Label Studio's address. ``arguments`` are
        httpx's ``params``, ``json``, ``data`` and ``files``. Raises :class:`LabelStudioError` and
        its kin, with ``status`` and ``detail`` of the answer.
        """
        arguments["timeout"] = self._limits(timeout or self.timeout)
        url = self.address.url + path
        answer = self._send(method, url, arguments, self.credentials.authorization())
        if answer.status_code == 401 and self.credentials.renewable:
            renewed = self.credentials.authorization(renew=True)
            answer = self._send(method, url, arguments, renewed)
        raise_for_answer(answer, self.address.url)
        return _decoded(answer, self.address.url)

    def access_token(self, personal_token: str) -> str:
        """Access token of some minutes for a personal access token."""
        url = f"{self.address.url}/api/token/refresh/"
        answer = self._persist("POST", url, {}, {"json": {"refresh": personal_token}})
        raise_for_answer(answer, self.address.url)
        given = _decoded(answer, self.address.url)
        access = given.get("access") if isinstance(given, dict) else None
        if not isinstance(access, str):
            raise LabelStudioError("Label Studio gave no access token for the personal one.")
        return access

    def _send(
        self, method: str, url: str, arguments: dict[str, Any], authorization: str
    ) -> httpx.Response:
        headers = {"Authorization": authorization}
        for _ in range(_REDIRECTS):
            answer = self._persist(method, url, headers, arguments)
            if not answer.has_redirect_location:
                return answer
            # The target carries its own query, so the parameters are not sent once more.
            url = self._redirected(method, answer)
            arguments = {key: value for key, value in arguments.items() if key != "params"}
        raise LabelStudioError(f"Label Studio at {self.address.url} redirects in a circle.")

    def _redirected(self, method: str, answer: httpx.Response) -> str:
        target = str(answer.url.join(answer.headers["location"]))
        shown = httpx.URL(target).copy_with(query=None, userinfo=None)
        if method != "GET" or not self.address.owns(target):
            raise LabelStudioError(
                f"{self.address.url} redirects to {shown}, where the token is not sent.",
                status=answer.status_code,
                mend="Set LABEL_STUDIO_URL to the address that Label Studio redirects to.",
            )
        return target

    def _persist(
        self, method: str, url: str, headers: dict[str, str], arguments: dict[str, Any]
    ) -> httpx.Response:
        """Send until it is answered or the tries are used up."""
        for pause in (*self._back_off, None):
            began = time.perf_counter()
            try:
                answer = self._client.request(method, url, headers=headers, **arguments)
            except httpx.HTTPError as error:
                if pause is None or not _may_repeat(method, error):
                    raise self._unreachable(error) from None
                reason = type(error).__name__
            else:
                self._on_answer()
                _tell(answer, time.perf_counter() - began)
                if pause is None or method not in _REPEATABLE or answer.status_code not in _BUSY:
                    return answer
                reason = f"HTTP {answer.status_code}"
            logger.info("%s %s: %s; trying again in %.1f s.", method, url, reason, pause)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _unreachable(self, error: httpx.HTTPError) -> LabelStudioUnreachable:
        what = (
            f"did not answer within {self.timeout:g} s"
            if isinstance(error, httpx.TimeoutException)
            else "cannot be reached"
        )
        reason = str(error) or type(error).__name__
        return LabelStudioUnreachable(
            f"Label Studio at {self.address.url} {what} ({reason}).", mend=_REACH_MEND
        )

    @staticmethod
    def _limits(timeout: float) -> httpx.Timeout:
        return httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))


def _tell(answer: httpx.Response, seconds: float) -> None:
    """Log an answer, without the query: addresses in it may be signed."""
    request, status = answer.request, answer.status_code
    logger.debug("%s %s: %d in %.3f s", request.method, request.url.path, status, seconds)


def raise_for_answer(answer: httpx.Response, url: str) -> None:
    """Raise the error that an answer stands for; nothing for a good one."""
    status = answer.status_code
    if answer.is_success:
        return
    detail = error_detail(answer)
    call = f"{answer.request.method} {answer.request.url.path}"
    said = detail[:_SHOWN_CHARACTERS].strip()
    message = _sentence(f"Label Studio answered {status} to {call}" + (f": {said}" if said else ""))
    kind, mend = _ERRORS.get(status, (LabelStudioError, ""))
    if status == 404 and _is_html(answer):
        mend = f"Check that LABEL_STUDIO_URL={url} is where Label Studio lives, sub-path included."
    raise kind(message, status=status, mend=mend, detail=detail)


_ERRORS: dict[int, tuple[Callable[..., LabelStudioError], str]] = {
    401: (LabelStudioUnauthorized, API_KEY_MEND),
    403: (LabelStudioUnauthorized, API_KEY_MEND),
    404: (LabelStudioNotFound, ""),
    **dict.fromkeys(_DOWN, (LabelStudioUnreachable, _REACH_MEND)),
}


def error_detail(answer: httpx.Response) -> str:
    """What Label Studio says is wrong; empty when it answers with a page."""
    if _is_html(answer):
        return "(a web page)"
    try:
        body = json.loads(answer.content)
    except ValueError:
        return answer.text[:_KEPT_CHARACTERS]
    if not isinstance(body, dict):
        return str(body)[:_KEPT_CHARACTERS]
    said = list(_sentences(body.get("validation_errors"))) or list(_sentences(body.get("detail")))
    return "; ".join(said or _sentences(body))[:_KEPT_CHARACTERS]


def _sentence(text: str) -> str:
    """``text`` with a full stop where Label Studio sets none: the mend follows it."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _sentences(said: Any) -> list[str]:
    """Sentences in Label Studio's nested errors, each with the field that it is about."""
    if isinstance(said, Mapping):
        found = [(key, s) for key, value in said.items() for s in _sentences(value)]
        return [s if key in ("non_field_errors", "detail") else f"{key}: {s}" for key, s in found]
    if isinstance(said, list):
        return [s for value in said for s in _sentences(value)]
    return [] if said in (None, "") else [str(said)]


def _may_repeat(method: str, error: httpx.HTTPError) -> bool:
    """Whether sending again can do no harm and may help."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    return method in _REPEATABLE and isinstance(
        error, httpx.NetworkError | httpx.RemoteProtocolError
    )


def _decoded(answer: httpx.Response, url: str) -> Any:
    if not answer.content.strip():
        return None
    try:
        return json.loads(answer.content)
    except ValueError:
        raise LabelStudioError(
            f"{url} answered {answer.request.url.path} with something that is not JSON.",
            status=answer.status_code,
            mend="Check that LABEL_STUDIO_URL is Label Studio's own address.",
        ) from None


def _is_html(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type", "")).startswith("text/html")
