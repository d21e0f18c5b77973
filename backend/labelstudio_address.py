"""Where Label Studio lives, and which URLs lie there.

The token goes to URLs that :meth:`Address.owns`, and to no others, so a URL that can be read in
two ways is never owned.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from backend.errors import SettingsError

DEFAULT_PORTS = {"http": 80, "https": 443}
# Characters that programs strip, or read as a slash, before they look at the rest of a URL.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
_DECODINGS = 5
_THIS_MACHINE = frozenset(["localhost", "127.0.0.1", "::1"])


@dataclass(frozen=True)
class Address:
    """An origin and a sub-path; ``path`` is empty or starts, and never ends, with a slash."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Address in ``url``; :class:`SettingsError` when it cannot be one."""
        parts = _split(url.strip())
        host = parts and _host(parts)
        segments = parts and _segments(parts.path)
        if not parts or not host or segments is None or parts.query or parts.fragment:
            raise SettingsError(
                f"LABEL_STUDIO_URL={url!r} is not an address like http://host:8080 "
                "or https://host/label-studio (without user name, query or fragment)."
            )
        path = parts.path.rstrip("/")
        return cls(parts.scheme, host, _port(parts), path)

    @property
    def url(self) -> str:
        """The address as a URL without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, which no proxy can reach."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    def owns(self, url: str) -> bool:
        """Whether ``url`` lies in this origin and sub-path.

        No: URLs with a user name, ``..`` or encoded slashes in the path, or characters that are
        not read alike everywhere.
        """
        parts = _split(url)
        if not parts or (parts.scheme, _host(parts), _port(parts)) != (
            self.scheme,
            self.host,
            self.port,
        ):
            return False
        segments = _segments(parts.path)
        prefix = _segments(self.path) or []
        return segments is not None and segments[: len(prefix)] == prefix

    def resolve_url(self, task_id: int, uri: str) -> str:
        """Address where Label Studio resolves a storage URI (``s3://…``) of a task."""
        encoded = urlsafe_b64encode(uri.encode()).decode()
        return f"{self.url}/tasks/{task_id}/resolve/?fileuri={encoded}"


def is_same_address(one: str, other: str) -> bool:
    """Whether two URLs are the same: scheme, user, host, port, path and query. This machine's names
    for itself count as one; one that is not read alike everywhere is the same as none."""
    first, second = _read(one), _read(other)
    return first is not None and second is not None and _compared(first) == _compared(second)


def _compared(parts: SplitResult) -> tuple[object, ...]:
    host = (parts.hostname or "").rstrip(".")
    host = "localhost" if host in _THIS_MACHINE else host
    user = (parts.username, parts.password)
    return parts.scheme, user, host, _port(parts), parts.path.rstrip("/"), parts.query


def _split(url: str) -> SplitResult | None:
    """Parts of an http(s) URL, or None when it has a user name or is not read alike everywhere."""
    parts = _read(url)
    return parts if parts and "@" not in parts.netloc else None


def _read(url: str) -> SplitResult | None:
    """Parts of an http(s) URL, or None when it is not one that is read alike everywhere."""
    if _AMBIGUOUS.search(url):
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        return None
    return parts if parts.scheme in DEFAULT_PORTS and parts.hostname else None


def _host(parts: SplitResult) -> str | None:
    host = (parts.hostname or "").rstrip(".")
    return host if host.isascii() and "%" not in host else None


def _port(parts: SplitResult) -> int:
    return DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port


def _segments(path: str) -> list[str] | None:
    """Decoded segments of a path; None when ``.``, ``..`` or an encoded slash hides in one."""
    segments = [_decoded(segment) for segment in path.rstrip("/").split("/")[1:]]
    if any(s in (".", "..") or "/" in s or _CONTROL.search(s) for s in segments):
        return None
    return segments


def _decoded(segment: str) -> str:
    """``segment`` percent-decoded until nothing changes; a slash when it never ends."""
    for _ in range(_DECODINGS):
        decoded = unquote(segment)
        if decoded == segment:
            return segment
        segment = decoded
    return "/"


_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
