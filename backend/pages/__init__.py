"""The web page: how every project stands, at a glance; and what all pages share."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import plotly
from flask import Blueprint, Response, render_template, send_from_directory
from sqlalchemy import select

from backend.described import Description, described
from backend.pages.navigation import navigation
from backend.projects import project_status
from backend.services import services
from backend.tables import Project

STATIC = Path(__file__).with_name("static")
PLOTLY = Path(plotly.__file__).parent / "package_data"
LIVE_SECONDS = 3
"""A page that shows what changes looks again after so long."""

bp = Blueprint("pages", __name__, template_folder="templates")


@bp.app_context_processor
def shared() -> dict[str, Any]:
    """What ``layout.html`` and ``parts.html`` need."""
    return {
        "navigation": navigation,
        "label_studio_url": services().settings.label_studio_link,
        "plotly_styles": plotly_styles,
    }


@cache
def plotly_styles() -> list[str]:
    """Ids under which plotly's script looks for style sheets of parts of it that no page uses.

    Where an element has the id it adds none of its own, which the content policy would block.
    """
    script = (PLOTLY / "plotly.min.js").read_text(encoding="utf-8")
    return sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', script)))


@bp.get("/")
@described(Description(media="text/html"))
def status() -> str:
    """How every project stands."""
    settings = services().settings
    with services().store.read() as session:
        rows = session.scalars(select(Project).order_by(Project.id)).all()
        statuses = [
            project_status(session, row, settings.lease_seconds, services().counting)
            for row in rows
        ]
    return render_template("status.html", projects=statuses, live=LIVE_SECONDS)


@bp.get("/static/<path:filename>")
@described(Description(media="*/*"))
def static(filename: str) -> Response:
    """The style sheet, the icon and the scripts of the pages."""
    return send_from_directory(STATIC, filename)


@bp.get("/static/plotly.min.js")
@described(Description(media="text/javascript"))
def plotly_script() -> Response:
    """The script that draws plots, of the installed package."""
    return send_from_directory(PLOTLY, "plotly.min.js")
