"""One guarded HTTP GET for images.

What holds for every request, redirects included:

- only ``http`` and ``https``, never down from ``https`` to ``http``; no user names in addresses;
- the token goes to Label Studio's own origin and sub-path and nowhere else, and not even there
  once another host has redirected to it;
- no cookies, no proxies from the environment, no credentials of any other kind;
- addresses are checked as :mod:`backend.addresses` says;
- bytes are counted while they arrive, after decompression; all of it has one time limit.
"""

from __future__ import annotations

import re
import ssl
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import unquote

import httpcore
import httpx

from backend.addresses import (
    CONNECT_SECONDS,
    CheckedBackend,
    Network,
    Resolver,
    resolve,
)
from backend.deadline import time_limit
from backend.errors import ImageError, LabelStudioError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})
_PORTS = {"http": 80, "https": 443}
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate"})
_REFUSED_MEND = "Check that LABEL_STUDIO_API_KEY is valid and its user is a member of the project."


class LabelStudioAccess(Protocol):
    """The part of Label Studio's client that fetching needs."""

    url: str

    def authorization(self, renew: bool = False) -> str:
        """Value of the Authorization header; ``renew`` after a 401."""

    def is_own(self, url: str) -> bool:
        """Whether ``url`` lies in Label Studio's origin and sub-path."""

    def resolve_url(self, task_id: int, uri: str) -> str:
        """Address where Label Studio resolves a storage URI of a task."""


def checked_url(text: str) -> httpx.URL:
    """``text`` as a normalised http(s) URL, or :class:`ImageError`."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise ImageError("The address is malformed.", retry=False) from None
    if url.scheme not in _PORTS:
        raise ImageError(f"Addresses with {url.scheme}: are not fetched.", retry=False)
    if not url.host:
        raise ImageError("The address has no host.", retry=False)
    if url.userinfo:
        raise ImageError(
            "The address has a user name in it.",
            retry=False,
            mend="Serve the image without one, or through a storage of Label Studio.",
        )
    # Encoded dots survive normalisation, and a proxy may decode them and leave the sub-path.
    segments = re.split(r"[/\\]", unquote(url.raw_path.split(b"?")[0].decode("ascii")))
    if any(segment.split(";")[0] in (".", "..") for segment in segments):
        raise ImageError("The path of the address leaves its folder.", retry=False)
    return url


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port."""
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


class GuardedHttp:
    """Fetches bytes; may be shared by threads, and keeps connections for reuse.

    Every failure is an :class:`ImageError`, whose messages carry hosts but no paths or queries.
    """

    def __init__(
        self,
        label_studio: LabelStudioAccess | None,
        *,
        max_bytes: int,
        seconds: float,
        max_redirects: int,
        allowed: Sequence[Network] = (),
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._label_studio = label_studio
        self._own = origin(httpx.URL(label_studio.url)) if label_studio else None
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._max_redirects = max_redirects
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context or httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=16,
            keepalive_expiry=5.0,
            network_backend=CheckedBackend(allowed, self._own and self._own[1:], resolver),
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()

    def get(self, address: str) -> bytes:
        """The body at ``address``, at most ``max_bytes`` long, within ``seconds`` in all."""
        url = checked_url(address)
        with_token = True
        with time_limit(self._seconds):
            for _ in range(self._max_redirects + 1):
                with_token = with_token and self._is_own(url)
                answer = self._ask(url, with_token)
                if isinstance(answer, bytes):
                    return answer
                url = answer
        raise ImageError(
            f"There are more than {self._max_redirects} redirects.",
            retry=False,
            mend="TIEBREAK_IMAGE_MAX_REDIRECTS is the limit.",
        )

    def _ask(self, url: httpx.URL, with_token: bool) -> bytes | httpx.URL:
        """The body, or the address that it is to be had from."""
        if not with_token:
            with self._open(url, None) as response:
                return self._answer(url, response)
        authorization = self._authorization()
        with self._open(url, authorization) as response:
            if response.status != 401:
                return self._answer(url, response)
        renewed = self._authorization(renew=True)
        if renewed == authorization:
            raise self._refusal(url, 401)
        with self._open(url, renewed) as response:
            return self._answer(url, response)

    def _is_own(self, url: httpx.URL) -> bool:
        return (
            self._label_studio is not None
            and origin(url) == self._own
            and self._label_studio.is_own(str(url))
        )

    def _authorization(self, renew: bool = False) -> str:
        if self._label_studio is None:
            raise ImageError("No Label Studio is set.", retry=False)
        try:
            return self._label_studio.authorization(renew=renew)
        except LabelStudioError as error:
            raise ImageError(
                error.message, retry=True, mend=error.mend, cause="label studio"
            ) from None

    @contextmanager
    def _open(self, url: httpx.URL, authorization: str | None) -> Iterator[httpcore.Response]:
        headers: dict[bytes | str, bytes | str] = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "tiebreak",
            "Accept": "image/*,*/*;q=0.1",
            "Accept-Encoding": "identity",
        }
        if authorization is not None:
            headers["Authorization"] = authorization
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        timeout = {"connect": min(CONNECT_SECONDS, self._seconds)}
        with (
            self._failures(url),
            self._pool.stream(
                "GET", target, headers=headers, extensions={"timeout": timeout}
            ) as response,
        ):
            yield response

    @contextmanager
    def _failures(self, url: httpx.URL) -> Iterator[None]:
        # Never chained: the text of a protocol error may quote a header.
        host = url.netloc.decode("ascii")
        try:
            yield
        except httpcore.ConnectTimeout:
            raise ImageError(
                f"{host} does not answer in time.", retry=True, cause="timeout"
            ) from None
        except httpcore.TimeoutException:
            raise ImageError(
                f"{host} took longer than {self._seconds:g} s.",
                retry=True,
                mend="TIEBREAK_IMAGE_TIMEOUT is the limit.",
                cause="timeout",
            ) from None
        except httpcore.ConnectError as error:
            raise ImageError(
                f"{host} cannot be reached ({error}).", retry=True, cause="unreachable"
            ) from None
        except httpcore.NetworkError:
            raise ImageError(
                f"{host} broke the connection.", retry=True, cause="unreachable"
            ) from None
        except httpcore.RemoteProtocolError:
            raise ImageError(f"The answer of {host} is cut off or not HTTP.", retry=True) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise ImageError(f"{host} cannot be asked for this address.", retry=False) from None

    def _answer(self, url: httpx.URL, response: httpcore.Response) -> bytes | httpx.URL:
        headers = httpx.Headers(response.headers)
        if response.status in _REDIRECTS and "location" in headers:
            return _redirected(url, headers["location"])
        if not 200 <= response.status < 300:
            raise self._refusal(url, response.status)
        body = _Body(self._max_bytes, headers)
        for chunk in response.iter_stream():
            body.add(chunk)
        return body.finish()

    def _refusal(self, url: httpx.URL, status: int) -> ImageError:
        host = url.netloc.decode("ascii")
        if self._is_own(url):
            if status in (401, 403):
                message = f"Label Studio refuses the token ({status})."
                return ImageError(message, retry=True, mend=_REFUSED_MEND, cause="unauthorized")
            host = f"Label Studio ({host})"
            if status == 404:
                return ImageError(
                    f"{host} answered 404.",
                    retry=False,
                    mend="The file is gone, or no storage of the project covers it.",
                    cause="answer",
                )
        retry = status in _LATER or status >= 500
        return ImageError(f"{host} answered {status}.", retry=retry, cause="answer")


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    try:
        joined = str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        raise ImageError("It redirects to a malformed address.", retry=False) from None
    target = checked_url(joined)
    if url.scheme == "https" and target.scheme != "https":
        raise ImageError(f"{url.host} redirects from https to http at {target.host}.", retry=False)
    return target


class _Body:
    """A body that arrives in pieces, counted after decompression."""

    def __init__(self, limit: int, headers: httpx.Headers) -> None:
        self._limit = limit
        self._bytes = bytearray()
        encoding = headers.get("content-encoding", "").strip().lower()
        self._inflater = zlib.decompressobj(wbits=47) if encoding in _COMPRESSIONS else None
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > limit:
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        if self._inflater is None:
            self._bytes += chunk
        elif not self._inflater.eof:
            # One byte more than allowed is asked for, so that a bomb is known by it.
            room = self._limit - len(self._bytes) + 1
            try:
                self._bytes += self._inflater.decompress(chunk, room)
            except zlib.error:
                raise ImageError("The compressed answer is damaged.", retry=False) from None
        if len(self._bytes) > self._limit:
            raise self._too_large()

    def finish(self) -> bytes:
        if self._inflater is not None and not self._inflater.eof:
            raise ImageError("The compressed answer is cut off.", retry=True)
        return bytes(self._bytes)

    def _too_large(self) -> ImageError:
        return ImageError(
            f"The file is larger than {self._limit:,} bytes.",
            retry=False,
            mend="TIEBREAK_IMAGE_MAX_BYTES is the limit.",
            cause="too large",
        )
