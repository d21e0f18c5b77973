"""Checks of what Label Studio goes by when it hands out images, and of what there is to learn."""

from __future__ import annotations

import time

from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, failed, ok, warning
from backend.errors import LabelConfigError
from backend.label_config import parse_label_config
from backend.push import SAMPLING
from backend.queue_settings import queue_warnings
from backend.troubles import troubles_json

SECOND_LOOK = 2.0
"""Seconds after which a difference is looked at again: an order may just be changing."""


def label_config(exam: Examination) -> Outcome:
    """There is something to learn in the project's labelling config."""
    try:
        config = parse_label_config(exam.client.project(exam.project_id).label_config)
    except LabelConfigError as error:
        return failed(error.message, error.mend)
    names = ", ".join(f"“{control.name}”" for control in config.controls)
    left = f"; left alone: {'; '.join(config.ignored)}" if config.ignored else ""
    return ok(f"{names} can be learned{left}")


def sampling(exam: Examination) -> Outcome:
    """Label Studio hands out tasks by the scores of predictions."""
    found = exam.client.project(exam.project_id).sampling
    if found == SAMPLING:
        return ok(f"The project's sampling is “{SAMPLING}”")
    mend = f"tiebreak connect {exam.project_id}, or give --fix."
    return failed(f"The project's sampling is “{found}”.", mend, fix="order")


def model_version(exam: Examination) -> Outcome:
    """Label Studio goes by the order that was sent to it last."""
    wanted, found = _wanted_and_found(exam)
    if wanted and wanted != found:
        time.sleep(SECOND_LOOK)
        wanted, found = _wanted_and_found(exam)
    if not wanted:
        return ok("Nothing was sent yet that Label Studio could go by")
    if wanted == found:
        return ok(f"Label Studio goes by {wanted}, the order that was sent last")
    if wanted not in exam.client.version_counts(exam.project_id):
        return failed(
            f"Label Studio has no prediction of {wanted} any more, by which it should go.",
            f"tiebreak train {exam.project_id}: the next version's are sent anew.",
        )
    return failed(
        f"Label Studio goes by “{found}”, and the order that was sent last is {wanted}.",
        "The trainer sets it at its next look at the whole project, --fix does at once.",
        fix="order",
    )


def _wanted_and_found(exam: Examination) -> tuple[str, str]:
    return exam.row().served, exam.client.project(exam.project_id).model_version or ""


def queue_order(exam: Examination) -> Outcome:
    """No other setting of the project goes before the order."""
    found = queue_warnings(exam.client.project(exam.project_id))
    if not found:
        return ok("No setting of the project goes before the order")
    return warning(" ".join(found), "Each is named with the call that switches it off.")


def troubles(exam: Examination) -> Outcome:
    """The trainer has no trouble with the project."""
    row = exam.row()
    with exam.store.read() as session:
        steps = troubles_json(session, exam.project_id)
    said = [row.error] if row.error else []
    said += [step["sentence"] for step in steps]
    if not said:
        return ok("The trainer reports no trouble")
    return failed(
        " ".join(said),
        "The sentence says what to do; the trainer tries again by itself, and its log has the "
        "details.",
    )
