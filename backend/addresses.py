"""Which addresses images may be fetched from, checked on the address that is connected to.

A check of the host name alone can be got round: a name may resolve to a private address, to a
different one at every look-up, or be a number in disguise (``0x7f000001``). So the name is
resolved here, each address it yields is checked, and the connection is made to the checked
address itself. TLS still verifies the name, because httpcore takes it from the URL.

Every step of a connection ends at the thread's time limit: a limit per read would let a server
that sends one byte a second go on for ever. Name look-ups are bounded by the system's resolver.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from backend.deadline import time_left
from backend.errors import ImageError, SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

CONNECT_SECONDS = 10.0

# Special addresses that Python 3.11 counts as public: protocol assignments (one of them is a
# cloud's metadata service), the host services of another cloud, relays, documentation.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "168.63.129.16/32", "192.88.99.0/24", "3fff::/20")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _remaining(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    left = time_left()
    if left is None:
        return timeout
    if left <= 0:
        raise error("the time for this image is over")
    return left if timeout is None else min(left, timeout)


def parse_networks(values: Iterable[str]) -> tuple[Network, ...]:
    """CIDR texts as networks; :class:`SettingsError` names the one that is none."""
    networks = []
    for value in values:
        try:
            networks.append(ipaddress.ip_network(value, strict=False))
        except ValueError:
            raise SettingsError(
                f"TIEBREAK_IMAGE_ALLOWED_NETWORKS={value!r}: not a network in CIDR notation,"
                " such as 10.0.0.0/8."
            ) from None
    return tuple(networks)


def resolve(host: str, port: int) -> list[str]:
    """Numeric addresses of ``host`` by the system's resolver, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Whether ``address`` is an ordinary public unicast address.

    IPv4 addresses inside IPv6 ones (mapped, 6to4, NAT64) are judged as the IPv4 address.
    """
    address = embedded(address)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
        and not any(address in network for network in _NOT_PUBLIC)
    )


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address carries, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to public addresses, to ``allowed`` networks and to ``trusted`` (host, port).

    Raises :class:`ImageError` for every other address.
    """

    def __init__(
        self,
        allowed: Sequence[Network],
        trusted: tuple[str, int] | None,
        resolver: Resolver = resolve,
    ) -> None:
        self._allowed = allowed
        self._trusted = trusted
        self._resolver = resolver
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first reachable address of ``host`` that is allowed."""
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._checked(host, port):
            left = _remaining(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._sockets.connect_tcp(
                    address, port, left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream)
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Refused: no image comes from a socket file."""
        raise ImageError("Images are not fetched from socket files.", retry=False)

    def _checked(self, host: str, port: int) -> list[str]:
        try:
            found = self._resolver(host, port)
        except (OSError, ValueError):  # ValueError: a name that cannot be encoded
            raise ImageError(
                f"The host {host} is not known.", retry=True, cause="unreachable"
            ) from None
        if (host, port) == self._trusted:
            return list(found)
        allowed = [address for address in found if self._may(address)]
        if not allowed:
            raise ImageError(
                f"The host {host} has the address {', '.join(found) or 'none'}, which is private"
                " or reserved.",
                retry=False,
                mend="If images are meant to come from there, add its network to"
                f' TIEBREAK_IMAGE_ALLOWED_NETWORKS, such as ["{found[0] if found else host}"].',
                cause="address refused",
            )
        return allowed

    def _may(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        inner = embedded(address)
        return is_public(address) or any(
            address in network or inner in network for network in self._allowed
        )


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step also ends at the thread's time limit."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _remaining(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
