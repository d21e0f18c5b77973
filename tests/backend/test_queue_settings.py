"""What a project's settings do to the queue's order, in words."""

from __future__ import annotations

import pytest

from backend.labelstudio_types import Project
from backend.queue_settings import queue_warnings


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"maximum_annotations": 3},
        {"maximum_annotations": 3, "overlap_cohort_percentage": 20},
        {"maximum_annotations": 3, "show_overlap_first": True},
        {"overlap_cohort_percentage": 20, "show_overlap_first": True},
        {"maximum_annotations": None, "overlap_cohort_percentage": None},
    ],
)
def test_settings_that_leave_the_order_alone(fields: dict[str, object]) -> None:
    assert queue_warnings(Project(4, "Cats", **fields)) == []  # type: ignore[arg-type]


def test_overlap_first() -> None:
    fields = {"maximum_annotations": 2, "overlap_cohort_percentage": 25}
    [line] = queue_warnings(Project(4, "Cats", show_overlap_first=True, **fields))
    assert "25% of the images are for 2 people each" in line
    assert line.endswith('PATCH /api/projects/4 {"show_overlap_first": false}.')


def test_annotator_evaluation() -> None:
    [line] = queue_warnings(Project(5, "Cats", annotator_evaluation_enabled=True))
    assert "to any number of people at once" in line
    assert line.endswith('PATCH /api/projects/5 {"annotator_evaluation_enabled": false}.')


def test_both() -> None:
    fields = {"maximum_annotations": 2, "overlap_cohort_percentage": 99}
    project = Project(
        6, "Cats", show_overlap_first=True, annotator_evaluation_enabled=True, **fields
    )
    assert len(queue_warnings(project)) == 2
