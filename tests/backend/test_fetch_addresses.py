from __future__ import annotations

import datetime
import socket
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest

from backend.addresses import is_public, parse_networks
from backend.errors import ImageError, SettingsError
from model.errors import WeightsError
from model.weights import PretrainedFile, fetch_from_url
from tests.backend.peers import (
    LOOPBACK,
    PICTURE,
    Access,
    Make,
    Peer,
    picture,
    refused,
    status,
    to,
)
from tests.serving import serving


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),  # 93.184.216.34 by NAT64
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%2", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::7f00:1", False),
        ("2002:7f00:1::", False),  # 127.0.0.1 by 6to4
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("192.88.99.1", False),
        ("3fff::1", False),
        ("2001:0:7f00:1::", False),  # Teredo
        ("64:ff9b::a9fe:a9fe", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_networks_are_checked() -> None:
    assert [str(n) for n in parse_networks(["10.0.0.1/8", "::1"])] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(SettingsError, match="TIEBREAK_IMAGE_ALLOWED_NETWORKS='minio'"):
        parse_networks(["minio"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0.0.0.0"]
)
def test_private_addresses_are_refused_however_written(
    studio: Peer, other: Peer, make: Make, host: str
) -> None:
    error = refused(
        make(Access(studio.url)),
        f"http://{host}:{other.port}/a",
        "private or reserved",
        retry=False,
    )
    assert "TIEBREAK_IMAGE_ALLOWED_NETWORKS" in error.mend
    assert other.asked == []


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
def test_private_ipv6_addresses_are_refused(other: Peer, make: Make, host: str) -> None:
    refused(make(), f"http://{host}:{other.port}/a", "(private or reserved|not known)", retry=False)
    assert other.asked == []


def test_redirects_to_private_addresses_are_refused(studio: Peer, other: Peer, make: Make) -> None:
    other.answers["/a"] = picture
    studio.answers["/tasks/7/resolve/"] = to(other.url + "/a")
    access = Access(studio.url)
    error = refused(make(access), "s3://bucket/key", "private or reserved", retry=False)
    assert '["127.0.0.1"]' in error.mend
    assert other.asked == []
    make(access, networks=("127.0.0.1",)).fetch("s3://bucket/key", 7)


def test_the_checked_address_is_the_one_connected_to(other: Peer, make: Make) -> None:
    found = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(found)

    other.answers["/a"] = status(200, PICTURE, Connection="close")
    fetcher = make(networks=("127.0.0.1/32",), resolver=rebinding)
    uri = f"http://images.example:{other.port}/a"
    fetcher.fetch(uri, 7)
    assert other.asked[0][1]["Host"] == f"images.example:{other.port}"
    refused(fetcher, uri, "images.example has the address 127.0.0.2", retry=False)
    assert asked == [("images.example", other.port)] * 2
    assert len(other.asked) == 1


def test_only_the_allowed_ones_of_several_addresses(other: Peer, make: Make) -> None:
    other.answers["/a"] = picture
    mixed = make(networks=("127.0.0.1/32",), resolver=lambda *_: ["10.0.0.1", "127.0.0.1"])
    mixed.fetch(f"http://images.example:{other.port}/a", 7)
    none = make(resolver=lambda *_: [])
    refused(none, "http://images.example/a", "the address none", retry=False)


def test_unknown_hosts(make: Make) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    refused(make(resolver=unknown), "http://images.example/a", "not known", retry=True)


def test_proxies_of_the_environment_are_not_used(
    studio: Peer, other: Peer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, studio.url)
    other.answers["/a"] = picture
    make(networks=LOOPBACK).fetch(other.url + "/a", 7)
    assert studio.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http:///a",
        "http:/a",
        "http:a",
        "http://",
        "http://[::1/a",
        "http://h:99999/a",
        "http://h\n/a",
        "http://a b/",
        "http://" + "a" * 70_000,
        "http://xn--\udcff/a",
        "http://ÿ..example/",
    ],
)
def test_malformed_addresses(make: Make, address: str) -> None:
    with pytest.raises(ImageError):
        make().fetch(address, 7)


def _certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for ``name`` with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tls_checks_the_name_and_not_the_address(other: Peer, make: Make, tmp_path: Path) -> None:
    pem = _certificate(tmp_path, "images.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with serving(Peer(context)) as peer:
        peer.answers["/a"] = picture
        peer.answers["/down"] = to(other.url + "/a")
        fetcher = make(
            networks=LOOPBACK,
            resolver=lambda *_: ["127.0.0.1"],
            ssl_context=ssl.create_default_context(cafile=str(pem)),
        )
        fetcher.fetch(f"https://images.example:{peer.port}/a", 7)
        assert names == ["images.example"]
        assert peer.asked[0][1]["Host"] == f"images.example:{peer.port}"
        down = f"https://images.example:{peer.port}/down"
        refused(fetcher, down, "redirects from https to http", retry=False)
        assert other.asked == []
        wrong = f"https://other.example:{peer.port}/a"
        refused(fetcher, wrong, "cannot be reached .*certificate", retry=True)


def test_weights_are_not_taken_from_http_when_https_was_asked(
    other: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = _certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("no_proxy", "*")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    other.answers["/weights.pth"] = picture
    with serving(Peer(context)) as peer:
        peer.answers["/down/weights.pth"] = to(other.url + "/weights.pth")
        peer.answers["/over/weights.pth"] = to(f"https://localhost:{peer.port}/weights.pth")
        peer.answers["/weights.pth"] = picture
        for way in ("down", "over"):
            wanted = PretrainedFile("own", f"https://localhost:{peer.port}/{way}/weights.pth")
            target = tmp_path / f"{way}.pth"
            if way == "over":
                fetch_from_url(wanted, target, lambda _: None)
                assert target.read_bytes() == PICTURE
            else:
                with pytest.raises(WeightsError, match="redirects from https to http"):
                    fetch_from_url(wanted, target, lambda _: None)
                assert not target.exists()
