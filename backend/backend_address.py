"""Addresses under which Label Studio takes a backend and its webhook."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_PART = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_PART}\.)+(?:xn--[a-z0-9-]{{1,58}}[a-z0-9]|[a-z][a-z-]{{0,61}}[a-z])\.?")

NAME_MEND = (
    "Set TIEBREAK_PUBLIC_URL to an address whose host has a dot in it, such as "
    "http://tiebreak.internal:9090, give that name to the backend's machine or container (in "
    "Docker a network alias), and connect again. An IP address and localhost will do as well."
)


def refused_name(url: str) -> str:
    """Why Label Studio takes no webhook to an address (“Enter a valid URL”); empty when it does.

    A host has to be an IP address, ``localhost``, or a name of two or more parts without
    underscores, whose last part has letters only.
    """
    host = (urlsplit(url).hostname or "").lower()
    try:
        ip_address(host)
        return ""
    except ValueError:
        pass
    if host == "localhost" or (_NAME.fullmatch(host) and len(host) <= 253):
        return ""
    if "." not in host:
        reason = "it has no dot"
    elif "_" in host:
        reason = "it has an underscore"
    else:
        reason = "it is no name of the internet's form"
    return (
        f"Label Studio takes no webhook to {url} (“Enter a valid URL”), for its host {host!r}: "
        f"{reason}."
    )
