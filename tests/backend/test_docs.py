"""The documentation says what the program does: settings, commands, routes, links."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from backend.app import create_app
from backend.cli import app as command_line
from backend.projects import ControlStatus, ProjectStatus
from backend.secret_files import SUFFIX
from backend.settings import SECRETS, Settings, variable_name
from model.backbones import BACKBONES
from model.scratch import SCRATCH

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def shown_default(value: object) -> str:
    if value is None:
        return "none"
    if value == ():
        return "`[]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def shown_meaning(name: str) -> str:
    field = Settings.model_fields[name]
    allowed = [value for value in get_args(field.annotation) if isinstance(value, str)]
    choices = ": " + ", ".join(f"`{value}`" for value in allowed) if allowed else ""
    return f"{field.description}{choices}"


def test_every_setting_stands_there_with_default_and_meaning() -> None:
    rows = [line for line in text_of("settings.md").splitlines() if line.startswith("| `")]
    wanted = [
        f"| `{variable_name(name)}` | {shown_default(field.default)} | {shown_meaning(name)} |"
        for name, field in Settings.model_fields.items()
    ]
    assert rows == wanted


def test_every_backbone_stands_there_with_file_and_width() -> None:
    rows = [line for line in text_of("backbones.md").splitlines() if line.startswith("| `")]
    for name, spec in BACKBONES.items():
        (row,) = [line for line in rows if line.startswith((f"| `{name}` |", f"| `{name}` ("))]
        assert f"| `{spec.pretrained.file_name}` |" in row
        assert f"| {spec.width} |" in row
    for name, scratch in SCRATCH.items():
        (row,) = [line for line in rows if line.startswith(f"| `{name}`, {scratch.input_size} px")]
        assert f"| {scratch.width} |" in row


def section(name: str) -> str:
    """The part of commands.md about one command."""
    found = re.search(rf"^## `tiebreak {name}\b.*?(?=^## |\Z)", text_of("commands.md"), re.M | re.S)
    assert found, f"docs/commands.md has no section on tiebreak {name}"
    return found[0]


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(command_line).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_stands_there(name: str) -> None:
    text, command = section(name), commands()[name]
    assert " ".join(command.help.split()).split(":")[0].rstrip(".") in " ".join(text.split())
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--"):
                assert f"`{option}`" in text
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= known


def test_no_other_command_is_described() -> None:
    described = re.findall(r"^## `tiebreak ([a-z-]+)", text_of("commands.md"), re.M)
    assert sorted(described) == sorted(commands())


def test_every_route_stands_there(settings: Settings) -> None:
    app = create_app(settings)
    app.extensions["tiebreak"].store.close()
    routes = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = re.findall(r"^### `([A-Z]+ /[^`]*)`", text_of("api.md"), re.M)
    assert sorted(described) == sorted(routes)


def test_every_field_of_a_project_stands_there() -> None:
    named = set(code_spans(text_of("api.md")))
    assert {field.name for field in fields(ProjectStatus)} <= named
    assert {field.name for field in fields(ControlStatus)} <= named


def blocks(text: str) -> str:
    """The fenced blocks and the inline code of a page."""
    return "\n".join([*re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S), *code_spans(text)])


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_and_variables_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    code = blocks(text)
    for target in re.findall(r"^make ([a-z]+)", code, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
    for name in re.findall(r"(?:^|[/\s])tiebreak ([a-z][a-z-]*)", code, re.M):
        assert name in commands(), f"tiebreak {name}"
    variables = {variable_name(name) for name in Settings.model_fields}
    variables |= {f"{variable_name(name)}{SUFFIX}" for name in SECRETS}
    assert set(re.findall(r"\bTIEBREAK_[A-Z0-9_]*[A-Z0-9]", text)) <= variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(REPOSITORY), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(README.parent / t.split("#")[0]).resolve() for t in LINK.findall(README.read_text())}
    assert {page for page in PAGES if page != README} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_pages_stand_for_themselves(page: Path) -> None:
    # Readers have no list of issues; a page that needs one is not finished.
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?i)\bissues? +#?\d|(?<![\w&/#])#\d+\b|\bTODO\b", text)


def test_every_module_that_the_architecture_names_is_there() -> None:
    table = text_of("architecture.md").partition("## What flows")[2].partition("\n## ")[0]
    rows = [row.split("|")[3:5] for row in table.splitlines() if row.startswith("| ")][2:]
    named = [
        REPOSITORY / room / (name if name.endswith("/") else f"{name}.py")
        for row in rows
        for room, cell in zip(("backend", "model"), row, strict=True)
        for name in code_spans(cell)
    ]
    assert len(named) > 50
    assert [path for path in named if not path.exists()] == []


def test_pictures_are_small() -> None:
    pictures = list((DOCS / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert picture.stat().st_size < 300_000, picture
