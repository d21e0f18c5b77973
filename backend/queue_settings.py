"""Settings of a Label Studio project that break the queue's order for the people who label it."""

from __future__ import annotations

from backend.labelstudio_types import Project


def queue_warnings(project: Project) -> list[str]:
    """What in a project's settings breaks the order, why, and the mend; a sentence or two each.

    Label Studio's pages show none of these settings, so each mend is a call of its API.
    """
    found = []
    people, share = project.maximum_annotations or 1, project.overlap_cohort_percentage
    if project.show_overlap_first and people > 1 and share is not None and share < 100:
        found.append(
            f"show_overlap_first is on, and {share}% of the images are for {people} people each: "
            "all of those come first, and the queue's order holds only among them. "
            f"{_mend(project.id, 'show_overlap_first')}"
        )
    if project.annotator_evaluation_enabled:
        found.append(
            "annotator_evaluation_enabled is on: Label Studio gives images with a ground truth to "
            "everybody, before the queue and to any number of people at once. "
            f"{_mend(project.id, 'annotator_evaluation_enabled')}"
        )
    return found


def _mend(project_id: int, name: str) -> str:
    return f'Switch it off: PATCH /api/projects/{project_id} {{"{name}": false}}.'
