from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SECTIONS = {
    "At run time": PROJECT["dependencies"],
    "For tests and checks": PROJECT["optional-dependencies"]["test"],
}
LOCKS = [*sorted((ROOT / "requirements").glob("*.lock")), ROOT / "requirements" / "uv.txt"]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found.group().lower()


def documented(heading: str) -> dict[str, str]:
    """Package -> reason, from the table below a heading."""
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE))


def locked(lock: Path) -> dict[str, str]:
    """Package -> version, from a lock file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_dependency_has_its_reason_and_no_other_has(heading: str) -> None:
    reasons = documented(heading)
    assert sorted(reasons) == sorted(name_of(r) for r in SECTIONS[heading])
    assert all(len(reason) > 10 for reason in reasons.values())


def test_every_dependency_is_locked() -> None:
    run, test = (locked(ROOT / "requirements" / f"{n}.lock") for n in ("tiebreak", "test"))
    assert {name_of(r) for r in SECTIONS["At run time"]} <= run.keys()
    assert {name_of(r) for r in SECTIONS["For tests and checks"]} <= test.keys()
    # what is tested is what runs
    assert run.items() <= test.items()
    assert locked(ROOT / "requirements" / "label-studio.lock")["label-studio"] == "1.23.2"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_digests_and_names_no_server(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    requirements = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])
    assert requirements
    assert all("--hash=sha256:" in requirement for requirement in requirements)
