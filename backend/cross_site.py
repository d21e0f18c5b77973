"""Requests that another site makes a person's browser send.

A browser that has logged in sends the password with every request to Tiebreak, whichever page asks
for it. Browsers say which page that was, in headers that no page can change: ``Sec-Fetch-Site``
where they are current and the address is https or this machine's, ``Origin`` in any case when
something is to be changed. Label Studio and other programs send neither.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Request

from backend.labelstudio_address import DEFAULT_PORTS

SAFE_METHODS = frozenset(["GET", "HEAD", "OPTIONS"])


def is_cross_site(request: Request) -> bool:
    """Whether a request that may change something comes from a page of another origin.

    Another port of the same host is another origin: Label Studio's own pages are no exception.
    """
    if request.method in SAFE_METHODS:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and not _is_own(origin, request.host)


def _is_own(origin: str, host: str) -> bool:
    """Whether an origin names this host. The scheme is left out: a proxy may have taken off TLS."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in DEFAULT_PORTS:
        return False
    default = f":{DEFAULT_PORTS[parts.scheme]}"
    return parts.netloc.lower().removesuffix(default) == host.lower().removesuffix(default)
