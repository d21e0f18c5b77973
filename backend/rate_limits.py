"""How often one address may ask, and how often it may be wrong. Counted by each process for itself.

Not a library's: those limit requests before it is known who asks, and keep every address that they
ever see. Here right credentials are never held back by somebody else's wrong ones, and what is kept
is bounded.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000
PROVEN_SECONDS = 86_400.0
"""How long an address that has logged in is believed to be no stranger."""


@dataclass
class _Window:
    began: float
    count: int = 0
    different: set[bytes] = field(default_factory=set)

    def seconds_left(self, now: float) -> int:
        return max(1, math.ceil(self.began + WINDOW_SECONDS - now))


class _Windows:
    """Address → its window of a minute; of too many addresses, those of the oldest are dropped."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def get(self, address: str, now: float) -> _Window | None:
        window = self._windows.get(address)
        return window if window and now < window.began + WINDOW_SECONDS else None

    def open(self, address: str, now: float) -> _Window:
        window = self.get(address, now)
        if window is None:
            window = self._windows[address] = _Window(now)
            self._windows.move_to_end(address)
            if len(self._windows) > MOST_ADDRESSES:
                self._windows.popitem(last=False)
        return window


class RequestRate:
    """At most ``limit`` requests of one address in a minute."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._windows = _Windows()

    def count(self, address: str) -> int:
        """Count a request; 0 when it may pass, else the seconds until the next one may."""
        with self._lock:
            now = self._clock()
            window = self._windows.open(address, now)
            window.count += 1
            return window.seconds_left(now) if window.count > self._limit else 0


class FailedLogins:
    """Wrong log-ins of one address in a minute.

    More than ``limit`` of them are told to wait. An address that has tried more than ``limit``
    *different* ones is guessing, and is held off altogether, so that a right guess tells it
    nothing. Never held off are this machine itself and addresses that have logged in within a day:
    somebody who guesses from behind the same address as Label Studio does not lock it out; and a
    Label Studio that still has an old password repeats one wrong log-in, which is no guessing.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._windows = _Windows()
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._key = secrets.token_bytes(32)

    def held_off(self, address: str) -> int:
        """Seconds for which an address is not let in whatever it sends; 0 when it may try."""
        with self._lock:
            now = self._clock()
            window = self._windows.get(address, now)
            if window is None or len(window.different) <= self._limit:
                return 0
            if _is_loopback(address) or now < self._proven.get(address, 0.0):
                return 0
            return window.seconds_left(now)

    def right(self, address: str) -> None:
        """Remember that an address has logged in."""
        with self._lock:
            self._proven[address] = self._clock() + PROVEN_SECONDS
            self._proven.move_to_end(address)
            if len(self._proven) > MOST_ADDRESSES:
                self._proven.popitem(last=False)

    def wrong(self, address: str, tried: str) -> int:
        """Count a wrong log-in; 0, or the seconds to wait when there were too many."""
        digest = hmac.digest(self._key, tried.encode("utf-8", "replace"), hashlib.sha256)
        with self._lock:
            now = self._clock()
            window = self._windows.open(address, now)
            window.count += 1
            if len(window.different) <= self._limit:
                window.different.add(digest)
            return window.seconds_left(now) if window.count > self._limit else 0


def caller(address: str | None) -> str:
    """What an address counts as: of IPv6, the network that one customer is given whole."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        if not parsed.is_loopback:
            return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def _is_loopback(address: str) -> bool:
    return address != "unknown" and ipaddress.ip_address(address).is_loopback
