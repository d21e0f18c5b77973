"""Attacks by an address, a redirect or an answer, each with what must come of it.

In an address ``{other}`` is the host and port of a server on the loopback address that nothing may
be fetched from, ``{port}`` its port alone, and ``{studio}`` the host and port of Label Studio.
"""

from __future__ import annotations

import gzip
import time
from dataclasses import dataclass, field

from tests.backend.peers import PICTURE, Answer, Handler, status

PRIVATE = "private or reserved"
MALFORMED = "malformed|not known|private or reserved|has no host|not an address"
NO_ADDRESS = "not an address that images are fetched from"


@dataclass(frozen=True)
class Attack:
    """``uri`` is what a task names; it must be refused with what ``says`` (a regular expression).

    ``names`` are host names and the addresses that they are given for; ``answers`` what the other
    server answers, ``studio`` what Label Studio answers, each by path; ``allowed``: the loopback
    network is, so that the other server may be asked, though without the token.
    """

    name: str
    uri: str
    says: str
    names: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    studio: dict[str, str] = field(default_factory=dict)
    allowed: bool = False


def _host(name: str, host: str, says: str = PRIVATE) -> Attack:
    return Attack(name, f"http://{host}:{{port}}/a", says)


def _named(name: str, *addresses: str) -> Attack:
    host = "images.example"
    return Attack(name, f"http://{host}:{{port}}/a", PRIVATE, names={host: list(addresses)})


ADDRESSES = [
    _host("loopback", "127.0.0.1"),
    _host("loopback by name", "localhost"),
    _host("loopback by name, with a dot", "LOCALHOST.", MALFORMED),
    _host("loopback, another of its addresses", "127.99.0.1"),
    _host("loopback as one number", "2130706433"),
    _host("loopback in hexadecimal", "0x7f000001"),
    _host("loopback in octal", "0177.0.0.01", MALFORMED),
    _host("loopback in mixed bases", "0x7f.0.1"),
    _host("loopback, shortened", "127.1"),
    _host("any address of this machine", "0.0.0.0"),
    _host("any address, shortened", "0"),
    _host("loopback in circled digits", "①②⑦.⓪.⓪.①", MALFORMED),
    _host("loopback in wide digits", "１２７.０.０.１", MALFORMED),
    _host("loopback with ideographic dots", "127。0。0。1", MALFORMED),
    _host("loopback, percent-encoded", "%31%32%37.0.0.1", MALFORMED),
    _host("loopback in IPv6", "[::1]", f"{PRIVATE}|not known"),
    _host("IPv4 mapped into IPv6", "[::ffff:127.0.0.1]", f"{PRIVATE}|not known"),
    _host("IPv4 in IPv6 the old way", "[::127.0.0.1]", f"{PRIVATE}|not known"),
    _host("IPv6 with a zone", "[fe80::1%25lo]", MALFORMED),
    _named("a name for loopback", "127.0.0.1"),
    _named("a name for a metadata service", "169.254.169.254"),
    _named("a name for another cloud's metadata service", "100.100.100.200"),
    _named("a name for a metadata service in IPv6", "fd00:ec2::254"),
    _named("a name for private networks", "10.0.0.1", "172.16.0.1", "192.168.0.1"),
    _named("loopback by NAT64", "64:ff9b::7f00:1"),
    _named("loopback by a network's own NAT64", "64:ff9b:1::7f00:1"),
    _named("loopback by 6to4", "2002:7f00:1::1"),
    _named("loopback by Teredo", "2001:0:7f00:1::1"),
    _named("a link-local address with a zone", "fe80::1%lo"),
    _named("loopback by ISATAP", "fe80::5efe:7f00:1"),
    _named("multicast and broadcast", "224.0.0.1", "255.255.255.255", "ff02::1"),
    _named("what is no address", "images", "999.1.1.1"),
]

READ_IN_TWO_WAYS = [
    Attack("Label Studio as a user name", "http://{studio}@{other}/a", "user name"),
    Attack("a user name and a password", "http://u:p@{other}/a", "user name"),
    Attack("an empty user name", "http://@{other}/a", "user name|private or reserved"),
    Attack("a backslash before the at", "http://{studio}\\@{other}/a", "user name|malformed"),
    Attack("a backslash for a slash", "http://{other}\\.example/a", MALFORMED),
    Attack("a hash before the at", "http://{other}#@{studio}/a", PRIVATE),
    Attack("a question mark before the at", "http://{other}?@{studio}/a", PRIVATE),
    Attack("an encoded at", "http://{studio}%40{other}/a", MALFORMED),
    Attack("a line break in the host", "http://127.0.0.1\r\nX: y:{port}/a", MALFORMED),
    Attack("a tab in the scheme", "ht\ttp://{other}/a", MALFORMED),
    Attack("a NUL in the host", "http://{other}\0.example/a", MALFORMED),
    Attack("three slashes", "http:///{other}/a", MALFORMED),
    Attack("no scheme", "//{other}/a", NO_ADDRESS),
    Attack("no scheme, and a backslash", "/\\{other}/a", NO_ADDRESS),
    Attack("a file", "file:///etc/passwd", NO_ADDRESS),
    Attack("a file on a host", "file://{other}/etc/passwd", NO_ADDRESS),
    Attack("gopher", "gopher://{other}/_GET%20/", NO_ADDRESS),
    Attack("dict", "dict://{other}/info", NO_ADDRESS),
    Attack("LDAP", "ldap://{other}/", NO_ADDRESS),
    Attack("an archive in an address", "jar:http://{other}/a!/b", NO_ADDRESS),
    Attack("another scheme in front", "url:http://{other}/a", NO_ADDRESS),
]


def _redirect(name: str, location: str, says: str, *, allowed: bool = False) -> Attack:
    return Attack(name, "/a", says, studio={"/a": location}, allowed=allowed)


REDIRECTS = [
    _redirect("a redirect to loopback", "http://{other}/a", PRIVATE),
    _redirect("a redirect to a metadata service", "http://169.254.169.254/latest/", PRIVATE),
    _redirect("a redirect without a scheme", "//{other}/a", PRIVATE),
    _redirect("a redirect with a backslash", "/\\{other}/a", "404|malformed"),
    _redirect("a redirect with a user name", "http://u:p@{other}/a", "user name"),
    _redirect("a redirect to a file", "file:///etc/passwd", "are not fetched"),
    _redirect("a redirect to gopher", "gopher://{other}/_", "are not fetched"),
    _redirect("a redirect to data", "data:image/png;base64,AAAA", "are not fetched"),
    _redirect("a redirect to a script", "javascript:alert(1)", "are not fetched"),
    _redirect("a redirect to nothing", "http://", "malformed|no host|redirects"),
    _redirect("a redirect that leaves the folder", "/data/%2e%2e/%2e%2e/a", "leaves its folder"),
    _redirect("a redirect of 60,000 characters", "http://{other}/" + "a" * 60_000, PRIVATE),
    _redirect("a redirect in a circle", "/a", "redirects"),
    Attack("a chain of 30 redirects", "/0", "redirects",
           studio={f"/{n}": f"/{n + 1}" for n in range(30)}),
    _redirect("out of Label Studio, where the token would be of use", "http://{other}/401",
              "answered 401", allowed=True),
]  # fmt: skip


def raw(*parts: bytes) -> Answer:
    """An answer byte for byte, after which the connection is closed."""

    def answer(handler: Handler) -> None:
        for part in parts:
            handler.wfile.write(part)
        handler.close_connection = True

    return answer


def endless(start: bytes, piece: bytes) -> Answer:
    """An answer that goes on until the other side has had enough."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(start)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            handler.wfile.write(piece)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"


def _answered(name: str, answer: Answer, says: str) -> Attack:
    return Attack(name, "http://{other}/a", says, answers={"/a": answer}, allowed=True)


NOT_HTTP = "cut off or not HTTP"
BROKEN = f"{NOT_HTTP}|broke the connection"
ANSWERS = [
    _answered("headers without end", endless(OK, b"X-A: " + b"b" * 60 + b"\r\n"), BROKEN),
    _answered("a header without end", endless(OK + b"X-A: ", b"b" * 1000), BROKEN),
    _answered("a status line without end", endless(b"HTTP/1.1 200 ", b"O" * 1000), BROKEN),
    _answered("interim answers without end", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 9),
              "longer than"),
    _answered("a body without end", endless(OK + b"\r\n", bytes(60_000)), "larger than"),
    _answered("chunks without end", endless(OK + b"Transfer-Encoding: chunked\r\n\r\n",
                                            b"1000\r\n" + bytes(4096) + b"\r\n"), "larger than"),
    _answered("a chunk of 2⁶⁴ bytes", raw(OK, b"Transfer-Encoding: chunked\r\n\r\n",
                                          b"1" + b"0" * 16 + b"\r\n", bytes(100)), BROKEN),
    _answered("a chunk of −1 bytes", raw(OK, b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"), BROKEN),
    _answered("a longer body promised", raw(OK, b"Content-Length: 5000\r\n\r\n", PICTURE), BROKEN),
    _answered("a shorter body promised", raw(OK, b"Content-Length: 20\r\n\r\n", PICTURE),
              "damaged|cut off"),
    _answered("−1 bytes promised", raw(OK, b"Content-Length: -1\r\n\r\n", PICTURE), BROKEN),
    _answered("two lengths promised", raw(OK, b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n",
                                          PICTURE), BROKEN),
    _answered("10¹⁸ bytes promised", raw(OK, b"Content-Length: 1000000000000000000\r\n\r\n"),
              "larger than"),
    _answered("HTTP/0.9", raw(PICTURE), BROKEN),
    _answered("another protocol", raw(b"220 mail.example ESMTP\r\n"), BROKEN),
    _answered("a gzip bomb", status(200, gzip.compress(bytes(30_000_000)), Content_Encoding="gzip"),
              "larger than"),
    _answered("a gzip in a gzip", status(200, gzip.compress(gzip.compress(PICTURE)),
                                         Content_Encoding="gzip, gzip"), "gzip archive"),
    _answered("a gzip of nothing", status(200, b"", Content_Encoding="gzip"), "cut off"),
    _answered("a redirect by another header", status(
        200, b"<html>", Refresh="0; url=http://169.254.169.254/", Link="<http://a>; rel=canonical",
    ), "web page"),
    _answered("a place with a status that does not redirect", status(
        201, b"", Location="http://169.254.169.254/"), "empty"),
    _answered("asks for a password", status(401, b"", WWW_Authenticate='Basic realm="a"'),
              "answered 401"),
    _answered("asks for a proxy's password", status(407, b"", Proxy_Authenticate="Basic"),
              "answered 407"),
]  # fmt: skip

ATTACKS = [*ADDRESSES, *READ_IN_TWO_WAYS, *REDIRECTS, *ANSWERS]
