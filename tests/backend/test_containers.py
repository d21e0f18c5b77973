"""The container files, as far as they can be read without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.settings import SECRETS, Settings, variable_name

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
COMPOSE = REPOSITORY / "docker-compose.yml"
PAGE = REPOSITORY / "docs" / "docker.md"
BIN = Path(sys.executable).parent
TRAINERS = {"trainer": "cpu", "trainer-gpu": "gpu"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_has_nothing_to_say_of_the_dockerfile() -> None:
    run(str(BIN / "hadolint"), "--no-color", str(DOCKERFILE))


def test_the_compose_file_is_one() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    run(str(BIN / "check-jsonschema"), *schema, str(COMPOSE))


@pytest.mark.parametrize("script", ["label-studio", "install-cpu", "trainer-health"])
def test_scripts_are_shell(script: str) -> None:
    path = REPOSITORY / "docker" / script
    assert path.stat().st_mode & 0o111
    run("sh", "-n", str(path))


def test_what_is_built_and_copied_is_there(services: dict[str, dict[str, Any]]) -> None:
    text = DOCKERFILE.read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)", text, re.M)
    assert {s["build"]["target"] for s in services.values() if "build" in s} <= {*stages}
    for line in re.findall(r"^COPY (?!--)(.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (REPOSITORY / source).exists(), source
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split() if "!" in line}
    copied = {source.split("/")[0] for source in re.findall(r"^COPY (?!--)(\S+)", text, re.M)}
    assert copied <= kept


def test_every_variable_of_tiebreak_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {variable_name(name) for name in Settings.model_fields}
    known |= {variable_name(name) + "_FILE" for name in SECRETS}
    for name in ("backend", *TRAINERS):
        assert {*services[name]["environment"]} <= known


ADDRESSES = {
    "LABEL_STUDIO_URL": "http://label-studio:8080",
    "LABEL_STUDIO_PUBLIC_URL": "http://localhost:8080",
    "TIEBREAK_PUBLIC_URL": "http://tiebreak.internal:9090",
}


@pytest.mark.parametrize("chosen", [{}, dict.fromkeys(ADDRESSES, "https://a.example.org")])
def test_addresses_are_those_of_this_set_up_unless_the_shell_says_others(
    services: dict[str, dict[str, Any]], chosen: dict[str, str]
) -> None:
    assert "tiebreak.internal" in services["backend"]["networks"]["default"]["aliases"]
    for name in ("backend", *TRAINERS):
        environment = services[name]["environment"]
        assert {n: filled_in(environment[n], chosen) for n in ADDRESSES} == ADDRESSES | chosen


def filled_in(value: str, variables: dict[str, str]) -> str:
    """A value as `docker compose` reads it: ``${NAME:-default}``."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1]) or m[2], value)


def test_the_page_has_the_default_of_each_address() -> None:
    for name, default in ADDRESSES.items():
        assert f"| `{name}` | `{default}` |" in PAGE.read_text()
        assert f"\nexport {name}=" in PAGE.read_text()


def test_server_and_trainers_share_settings_and_data(services: dict[str, dict[str, Any]]) -> None:
    backend = services["backend"]
    for name, profile in TRAINERS.items():
        trainer = services[name]
        assert trainer["profiles"] == [profile]
        assert trainer["command"] == ["trainer"]
        assert trainer["depends_on"].keys() == {"backend", "label-studio", "postgres"}
        for shared in ("environment", "volumes", "cap_drop", "read_only"):
            assert trainer[shared] == backend[shared]
    devices = services["trainer-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_no_secret_and_no_open_port(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("${BIND:-127.0.0.1}:")
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|KEY|DATABASE_URL", name):
                assert re.fullmatch(r"/run/.*|true", str(value)), name


def test_the_page_names_each_service_and_each_variable(
    services: dict[str, dict[str, Any]],
) -> None:
    page = PAGE.read_text()
    names = {*services, *re.findall(r"\$\{(\w+)", COMPOSE.read_text())}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_the_page_names_the_one_root_and_its_capabilities(
    services: dict[str, dict[str, Any]],
) -> None:
    assert {n: s["user"] for n, s in services.items() if "user" in s} == {"make-secrets": "0:0"}
    granted = {name: s["cap_add"] for name, s in services.items() if "cap_add" in s}
    assert granted.keys() == {"make-secrets"}
    for name in ("make-secrets", "label-studio", "backend", *TRAINERS):
        assert services[name]["cap_drop"] == ["ALL"]
    said = re.search(r"`make-secrets` runs as root, [^.]*", PAGE.read_text())
    assert said
    assert re.findall(r"`([A-Z_]+)`", said[0]) == granted["make-secrets"]
    assert set(re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.M)) == {"10001:10001"}
