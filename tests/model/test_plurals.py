from __future__ import annotations

import pytest

from model.plurals import counted


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (0, "label", "0 labels"),
        (1, "audit label", "1 audit label"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (12_345, "image", "12,345 images"),
    ],
)
def test_a_noun_follows_its_count(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words
