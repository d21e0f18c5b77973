"""Which project a page is about."""

from __future__ import annotations

from sqlalchemy.orm import Session

from backend.payloads import LARGEST_ID
from backend.tables import Project
from backend.web_errors import RequestError


def asked_project(session: Session, project_id: int) -> Project:
    """The project of this number; a 404 that says how to connect it where it is not known."""
    # A number that no database keeps would be an error there.
    row = session.get(Project, project_id) if project_id <= LARGEST_ID else None
    if row is None:
        raise RequestError(
            404,
            "unknown_project",
            f"Project {project_id} is not connected.",
            f"Run `tiebreak connect {project_id}`.",
        )
    return row
