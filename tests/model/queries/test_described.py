from __future__ import annotations

import re
from pathlib import Path

from model.queries import STRATEGIES
from model.queries.bald import DRAWS
from model.queries.clusters import SAMPLE
from model.queries.coreset import ACTIVE
from model.queries.radius import LEAST_SHARE, MOST_SHARE
from model.queries.seeding import PROPOSALS
from model.queries.typiclust import CLUSTERS, MEMBERS, NEIGHBOURS
from model.queries.uherding import CANDIDATES, LANDMARKS

TEXT = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, f"docs/strategies.md has no section on {name}"
    return found[1]


def test_every_strategy_stands_there_in_order():
    assert re.findall(r"^## `(.*)`$", TEXT, re.M) == list(STRATEGIES)


def test_every_strategy_has_its_cost():
    cost = TEXT[TEXT.index("## What it costs") :]
    for name in STRATEGIES:
        assert re.search(rf"^\| `{name}` \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", cost, re.M)


def test_the_numbers_are_those_of_the_code():
    assert f"{ACTIVE:,} farthest" in section("coreset")
    assert f"{PROPOSALS} images are proposed" in section("badge")
    for number in (CLUSTERS, SAMPLE, MEMBERS, NEIGHBOURS):
        assert f"{number:,}" in section("typiclust")
    for number in (CANDIDATES, LANDMARKS):
        assert f"{number:,}" in section("uherding")
    assert f"at least {LEAST_SHARE} and at most {MOST_SHARE}" in section("uherding")
    assert f"Asks {DRAWS} copies" in section("bald")
