from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from backend.addresses import resolve
from backend.errors import ImageError
from tests.backend.fetch_attacks import ATTACKS, Attack
from tests.backend.peers import LOOPBACK, Access, Make, Peer, status, to


def test_there_are_many() -> None:
    assert len(ATTACKS) >= 25
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_by_address_or_answer(
    attack: Attack, studio: Peer, other: Peer, make: Make, tmp_path: Path
) -> None:
    places = {
        "other": f"127.0.0.1:{other.port}",
        "port": str(other.port),
        "studio": f"127.0.0.1:{studio.port}",
    }

    def placed(text: str) -> str:
        for name, value in places.items():
            text = text.replace("{" + name + "}", value)
        return text

    def look_up(host: str, port: int) -> list[str]:
        return attack.names[host] if host in attack.names else resolve(host, port)

    other.answers.update({"/401": status(401), **attack.answers})
    studio.answers.update({path: to(placed(where)) for path, where in attack.studio.items()})
    fetcher = make(
        Access(studio.url),
        networks=LOOPBACK if attack.allowed else (),
        resolver=look_up,
        image_timeout=2.0,
        image_max_bytes=1_000_000,
    )
    started = time.monotonic()
    with pytest.raises(ImageError, match=attack.says):
        fetcher.fetch(placed(attack.uri), 7)
    assert time.monotonic() - started < 60
    assert other.tokens == [None] * len(other.asked)
    if not attack.allowed:
        assert other.asked == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_name_that_leads_to_several_addresses_is_asked_at_public_ones_only(
    other: Peer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        asked.append(address[0])
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", connect)
    fetcher = make(resolver=lambda *_: ["10.0.0.1", "93.184.216.34", "127.0.0.1"])
    with pytest.raises(ImageError, match="cannot be reached"):
        fetcher.fetch(f"http://images.example:{other.port}/a", 7)
    assert asked == ["93.184.216.34"]
    assert other.asked == []
