"""The links between the pages of a project."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app, request, url_for

PAGES = {
    "": "Overview",
    "/queue": "Queue",
    "/try": "Try an image",
    "/suspicious": "Suspicious labels",
    "/quality": "Label quality",
    "/auto-label": "Auto-labelling",
    "/versions": "Versions",
    "/dataset": "Data set",
}
"""What follows ``/projects/<int:project_id>`` → what the link says, in order."""


@dataclass(frozen=True)
class Link:
    """A page of a project; ``current`` when it is the one being shown."""

    label: str
    url: str
    current: bool


def navigation(project_id: int) -> list[Link]:
    """Links to those pages of a project that this server has."""
    rules = {
        rule.rule: rule.endpoint
        for rule in current_app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
    }
    found = []
    for path, label in PAGES.items():
        endpoint = rules.get(f"/projects/<int:project_id>{path}")
        if endpoint is not None:
            url = url_for(endpoint, project_id=project_id)
            found.append(Link(label, url, request.endpoint == endpoint))
    return found
