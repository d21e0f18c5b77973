"""Blind images in a real Label Studio: no ticked choice, and answers beside what was withheld."""

from __future__ import annotations

import time

from playwright.sync_api import Browser, expect

from backend.first_answers import SLACK_SECONDS
from tests.callers import PASSWORD, USER
from tests.e2e.conftest import StartTiebreak
from tests.e2e.digits import Digits, assert_all_scored, choices_of, predictions_of
from tests.e2e.label_studio_browser import LabelStudioBrowser
from tests.e2e.label_studio_person import Json
from tests.e2e.label_studio_server import LabelStudioServer
from tests.e2e.tiebreak_processes import labels_learned

LABELS, MOST_SHOWN, PATIENCE = 20, 15, 180
SETTINGS = {
    "TIEBREAK_BLIND_SHARE": "0.5",
    # One version stays, so that what was ticked is known from Label Studio at the end, too.
    "TIEBREAK_MIN_NEW_LABELS": str(LABELS),
}


def test_blind_images_have_no_ticked_choice_and_answers_are_compared(
    chromium: Browser,
    label_studio: LabelStudioServer,
    start_tiebreak: StartTiebreak,
    digits: Digits,
    digit_project: int,
) -> None:
    admin, project = label_studio.admin, digit_project
    tiebreak = start_tiebreak(label_studio, **SETTINGS)
    digits.add_tasks(project, range(60))
    tiebreak.connect(project)
    tiebreak.settle(project, PATIENCE)
    digits.label_next(admin, project, LABELS)
    tiebreak.wait(project, labels_learned, PATIENCE)
    status = tiebreak.settle(project, PATIENCE)
    served_at = time.monotonic()
    scores = assert_all_scored(admin, project, status)
    held = predictions_of(admin, project, status["order"])
    ticked = {task: choices_of(held[task][0]) for task in scores}
    withheld = {task for task, choices in ticked.items() if not choices}
    audit, blind = tiebreak.audit_tasks(project), tiebreak.blind_tasks(project, share=0.5)
    assert withheld == (audit | blind) & scores.keys()

    # Asked for one task with a context, as the interface does, it says no more.
    task = admin.get(f"/api/tasks/{min(withheld - audit)}")
    asked = {"id": task["id"], "data": task["data"]}
    params = {"context": {"result": []}}
    answer = tiebreak.post(
        "/predict", {"tasks": [asked], "project": f"{project}.1", "params": params}
    )
    (said,) = answer.raise_for_status().json()["results"]
    assert (said["result"], said["score"]) == ([], scores[task["id"]])

    time.sleep(max(0.0, served_at + SLACK_SECONDS + 1 - time.monotonic()))
    window = LabelStudioBrowser(chromium, label_studio)
    window.log_in()
    window.label_all_tasks(project)
    queue, counts = sorted(scores, key=scores.__getitem__), {"ticked": [0, 0], "blind": [0, 0]}
    for place, expected in enumerate(queue[:MOST_SHOWN]):
        if min(n for _, n in counts.values()) >= 2:
            break
        assert window.shown_task == expected
        assert window.ticked == ticked[expected]
        # Right or wrong: every second ticked choice is changed.
        given = ticked[expected][0] if ticked[expected] else str(place % 10)
        if ticked[expected] and counts["ticked"][1] % 2 == 0:
            given = next(name for name in "01" if name != given)
        window.tick(given)
        if expected not in audit:
            group = "blind" if expected in withheld else "ticked"
            counts[group][0] += group == "ticked" and given != ticked[expected][0]
            counts[group][1] += 1
        window.submit()
    window.close()
    assert min(n for _, n in counts.values()) >= 2

    def counted() -> Json | None:
        found = tiebreak.get(f"/api/projects/{project}/ticked-choices")
        (control,) = found["controls"]
        return (
            found
            if control["ticked"]["n"] + control["blind"]["n"] == sum(n for _, n in counts.values())
            else None
        )

    found = tiebreak.wait(project, lambda _: counted(), PATIENCE)
    (control,) = found["controls"]
    assert found["left_out"] == {
        "nothing": LABELS,
        "replaced": 0,
        "changed": 0,
        "check": 0,
        "other_share": 0,
    }
    assert [control["ticked"]["differ"], control["ticked"]["n"]] == counts["ticked"]
    assert control["blind"]["n"] == counts["blind"][1]
    assert [each["annotator"] for each in control["annotators"]] == [admin.id]

    log_in = {"username": USER, "password": PASSWORD}
    context = chromium.new_context(http_credentials=log_in)
    page = context.new_page()
    page.goto(f"{tiebreak.url}/projects/{project}")
    section = page.locator("#part-ticked")
    expect(section).to_contain_text("while 50 % of the queue was blind")
    expect(section.locator("tbody tr")).to_have_count(2)
    context.close()
