"""How often people change a ticked choice: the counts, the JSON and the section of the page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.first_answers import CHANGED, NOTHING, REPLACED
from backend.settings import Settings
from backend.store import Store
from backend.tables import FirstAnswer
from backend.withholding import AUDIT, BLIND, CHECK, TICKED
from model.automation_bias import difference_interval, exact_interval
from tests.backend.conftest import Tables
from tests.backend.served_app import client_of, settings_in

# Annotator, state, blind share, how many differ, how many there are.
ROWS = [
    (3, TICKED, 0.1, 4, 90),
    (3, BLIND, 0.1, 5, 10),
    (3, AUDIT, 0.1, 6, 20),
    (11, TICKED, 0.1, 9, 60),
    (11, BLIND, 0.1, 1, 6),
    # Of another time, and what does not count.
    (3, TICKED, 0.0, 30, 40),
    (11, BLIND, 0.5, 7, 7),
    (3, NOTHING, None, 0, 12),
    (3, REPLACED, None, 0, 2),
    (11, CHANGED, 0.1, 0, 1),
    (3, CHECK, 0.1, 3, 5),
    (11, CHECK, 0.5, 1, 3),
]


def answers(rows: Iterable[tuple[int, str, float | None, int, int]]) -> Iterator[FirstAnswer]:
    task = 0
    for annotator, state, share, differ, n in rows:
        for number in range(n):
            task += 1
            counts = state in (TICKED, BLIND, AUDIT, CHECK)
            differs = number < differ
            yield FirstAnswer(
                project_id=1,
                task_id=task,
                annotator=annotator,
                control="label",
                annotation_id=task,
                # Those of today's share come last.
                answered_at=task + (1000.0 if share == 0.1 else 0.0),
                state=state,
                version=1 if counts else None,
                blind_share=share,
                said=["cat"] if counts else None,
                given=["dog" if differs else "cat"],
                differs=differs if counts else None,
            )


@pytest.fixture
def page(tables: Tables, settings: Settings) -> Iterator[FlaskClient]:
    with client_of(settings.model_copy(update={"blind_share": 0.1})) as client:
        yield client


def asked(page: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = page.get("/api/projects/1/ticked-choices").get_json()
    return found


def words(text: str) -> str:
    section = text.partition('id="part-ticked"')[2].partition("</section>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", section)).split())


def write(store: Store, rows: Iterable[tuple[int, str, float | None, int, int]]) -> None:
    with store.write() as session:
        session.add_all(answers(rows))


def test_counts_of_everybody_and_of_each(page: FlaskClient, store: Store) -> None:
    write(store, ROWS)
    found = asked(page)
    assert (found["share"], found["sentence"]) == (0.1, "")
    (control,) = found["controls"]
    counted = {
        each.get("annotator", "all"): tuple(
            (each[group]["differ"], each[group]["n"]) for group in ("ticked", "blind", "audit")
        )
        for each in (control, *control["annotators"])
    }
    assert counted == {
        "all": ((13, 150), (6, 16), (6, 20)),
        3: ((4, 90), (5, 10), (6, 20)),
        11: ((9, 60), (1, 6), (0, 0)),
    }
    # As the exact intervals and Newcombe's have it.
    (three, eleven) = control["annotators"]
    assert (three["ticked"]["low"], three["ticked"]["high"]) == exact_interval(4, 90)
    low, high = difference_interval(5, 10, 4, 90)
    assert three["difference"] == {"value": 0.5 - 4 / 90, "low": low, "high": high}
    assert low > 0.17
    assert [each["verdict"] for each in (control, three, eleven)] == [
        "follows",
        "follows",
        "no difference seen",
    ]
    assert found["left_out"] == {
        "nothing": 12,
        "replaced": 2,
        "changed": 1,
        "check": 8,
        "other_share": 47,
    }
    assert "differ from the model 45.6 points (" in three["sentence"]
    assert "less often when they see its choice" in three["sentence"]


def test_the_page_has_the_numbers_of_the_api(page: FlaskClient, store: Store) -> None:
    write(store, ROWS)
    (control,) = asked(page)["controls"]
    read = words(page.get("/projects/1").text)
    assert control["sentence"] in read
    assert "while 10 % of the queue was blind" in read
    for each in (control, *control["annotators"]):
        share, difference = each["ticked"], each["difference"]
        row = (
            f"{each.get('annotator', 'all')} {share['n']} {100 * share['value']:.1f} % "
            f"{100 * share['low']:.1f} to {100 * share['high']:.1f} {each['blind']['n']} "
        )
        assert row in read
        assert (
            f"{100 * difference['value']:+.1f} {100 * difference['low']:+.1f} to "
            f"{100 * difference['high']:+.1f}"
        ) in read
    assert "3 90 4.4 %" in read
    assert "follows the tick" in read
    assert "12 where nothing was there to be ticked" in read
    assert "8 to images that a promise left to people as a check" in read


def test_with_no_answers_it_says_what_is_missing(page: FlaskClient, tmp_path: Path) -> None:
    found = asked(page)
    (control,) = found["controls"]
    assert (found["share"], control["verdict"], control["annotators"]) == (
        None,
        "cannot tell yet",
        [],
    )
    assert control["ticked"] == {"differ": 0, "n": 0, "value": None, "low": None, "high": None}
    assert found["sentence"].startswith("Cannot tell yet")
    assert found["sentence"] in words(page.get("/projects/1").text)
    assert page.get("/api/projects/7/ticked-choices").status_code == 404


def test_without_a_blind_share_it_says_so(tables: Tables, settings: Settings) -> None:
    write(tables.store, [(3, TICKED, 0.0, 3, 30), (3, AUDIT, 0.0, 2, 4)])
    with client_of(settings) as page:
        found = asked(page)
        read = words(page.get("/projects/1").text)
    assert found["share"] is None
    assert "TIEBREAK_BLIND_SHARE is 0" in found["sentence"]
    assert found["sentence"] in read
    # The audit images are shown all the same.
    assert found["controls"][0]["audit"]["n"] == 4
    assert "50.0 % 6.8 to 93.2" in read
    assert found["left_out"]["other_share"] == 30


def test_people_who_turn_away_from_the_tick(page: FlaskClient, store: Store) -> None:
    write(store, [(3, TICKED, 0.1, 60, 100), (3, BLIND, 0.1, 2, 50)])
    (control,) = asked(page)["controls"]
    assert control["verdict"] == "opposes"
    assert "56.0 points (" in control["sentence"]
    assert "more often when they see its choice" in control["sentence"]
    low, high = (100 * control["difference"][end] for end in ("low", "high"))
    assert f"({-high:.1f} to {-low:.1f})" in control["sentence"]
    assert "turns away from the tick" in words(page.get("/projects/1").text)


def test_the_default_is_on(tmp_path: Path) -> None:
    assert Settings.model_fields["blind_share"].default == 0.05
    assert settings_in(tmp_path, blind_share=1.0).blind_share == 1
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="blind_share"):
            settings_in(tmp_path, blind_share=wrong)
