"""Names of others as names of files."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.safe_names import LONGEST, safe_name, safe_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("Große Katze (alt)", "Große Katze (alt)"),
        ("猫", "猫"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        ("", "_"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\0b", "a_b"),
        ("dot.", "dot"),
        ("NUL", "_NUL"),
        ("com1.jpg", "_com1.jpg"),
        ("n" * 300, "n" * LONGEST),
    ],
)
def test_a_name_is_one_name(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_equal_names_are_told_apart_whatever_the_capitals() -> None:
    assert safe_names(["a/b", "a:b", "A/B", "c", "a_b-2", "c"]) == {
        "a/b": "a_b",
        "a:b": "a_b-2",
        "A/B": "A_B-3",
        "c": "c",
        "a_b-2": "a_b-2-2",
    }


@given(st.lists(st.text(max_size=200), max_size=8))
def test_any_names_stay_in_the_folder_and_apart(texts: list[str]) -> None:
    names = safe_names(texts)
    assert set(names) == set(texts)
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert name not in ("", ".", "..")
        assert Path(name).name == name == PureWindowsPath(name).name
        assert len(name.encode()) < 120
        assert not name.startswith((".", "-", " "))
        assert safe_name(name.encode().decode()) != ""
