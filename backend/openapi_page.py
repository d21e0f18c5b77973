"""``GET /openapi.json``: what the server's routes take and answer."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from backend.answers import DescriptionAnswer
from backend.described import Description, described
from backend.openapi import describe

bp = Blueprint("openapi", __name__)


@bp.get("/openapi.json")
@described(Description(answer=DescriptionAnswer))
def openapi() -> Response:
    """This description."""
    return jsonify(describe(current_app))
