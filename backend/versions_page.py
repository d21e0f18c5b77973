"""The page of a project's versions: how good each is, what flipped, promote and roll back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, render_template
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.answers import PromotionAnswer
from backend.bodies import read_payload
from backend.described import Description, described
from backend.errors import SetupError
from backend.measures_text import NAMES, any_told, audit_shares, words_of
from backend.pages.asked import asked_project
from backend.payloads import PromotePayload, RollBackPayload
from backend.services import services
from backend.tables import Project, Version, version_name
from backend.version_metrics import gate_of
from backend.versions import Promotion, promote, roll_back, version_number
from backend.versions_text import when
from backend.web_errors import RequestError
from model.errors import ArtifactError

LIVE_SECONDS = 10
SHOWN = ("macro_f1", "log_loss", "ece")

bp = Blueprint("versions_page", __name__)


@dataclass(frozen=True)
class VersionRow:
    """One version as the page shows it.

    ``accuracy`` is that on the audit labels at its training, of each control in words; ``gained``
    and ``lost`` are tasks that it got right where the champion of then did not, and the other way.
    ``told``: whether any measure is a number yet.
    """

    name: str
    state: str
    labels: int
    when: str
    network: str
    accuracy: list[tuple[str, str]]
    others: list[tuple[str, str]]
    told: bool
    reason: str
    gained: list[int]
    lost: list[int]
    more_gained: int
    more_lost: int


@bp.get("/projects/<int:project_id>/versions")
@described(Description(media="text/html"))
def show(project_id: int) -> str:
    """The versions of a project: metrics, what flipped, and which one serves."""
    with services().store.read() as session:
        project = asked_project(session, project_id)
        rows = _rows(session, project)
    before = project.history[-1] if project.history else None
    return render_template(
        "versions.html",
        project=project,
        serving=version_name(project.champion),
        before=version_name(before) if before else None,
        versions=rows,
        shown=[NAMES[name] for name in SHOWN],
        live=LIVE_SECONDS,
    )


@bp.post("/projects/<int:project_id>/versions/promote")
@described(Description(answer=PromotionAnswer, body=PromotePayload, errors=(422,)))
def promote_version(project_id: int) -> Response:
    """Make a version serve, whatever the gate said of it."""
    wanted = read_payload(PromotePayload)

    def switch(serving: int) -> Promotion:
        number = version_number(wanted.version)
        return promote(services().store, services().settings, project_id, number, serving)

    return _switched(project_id, wanted.serving, switch)


@bp.post("/projects/<int:project_id>/versions/rollback")
@described(Description(answer=PromotionAnswer, body=RollBackPayload, errors=(422,)))
def roll_back_version(project_id: int) -> Response:
    """Put back the version that served before."""
    wanted = read_payload(RollBackPayload)
    return _switched(
        project_id,
        wanted.serving,
        lambda serving: roll_back(services().store, services().settings, project_id, serving),
    )


def _switched(project_id: int, serving: str, switch: Callable[[int], Promotion]) -> Response:
    """Switch what serves, where that is still what the person saw."""
    with services().store.read() as session:
        number = asked_project(session, project_id).champion
    now = version_name(number)
    if serving != now:
        raise RequestError(
            422,
            "changed_meanwhile",
            f"{now} serves now, and no longer {serving}.",
            "Look at the versions anew, then ask again.",
        )
    try:
        done = switch(number)
    except (ArtifactError, SetupError) as error:
        raise RequestError(422, "cannot_serve", error.message, error.mend) from None
    return jsonify(
        version=done.version,
        before=done.before,
        changed=done.changed,
        sentence=done.sentence,
        warnings=done.warnings,
    )


def _rows(session: Session, project: Project) -> list[VersionRow]:
    query = select(Version).where(Version.project_id == project.id).order_by(Version.number.desc())
    return [_row(version, project.champion) for version in session.scalars(query)]


def _row(version: Version, champion: int) -> VersionRow:
    measures = version.metrics.get("measures") or {}
    held = {name: samples.get("held_out") or {} for name, samples in measures.items()}
    gate = gate_of(version.metrics)
    gained, lost = gate.get("gained_ids") or [], gate.get("lost_ids") or []
    return VersionRow(
        version_name(version.number),
        _state(version, champion),
        version.labels,
        when(version.created_at),
        version.backbone,
        audit_shares(version.metrics),
        [(NAMES[name], _of_all(name, held)) for name in SHOWN],
        any(any_told(part) for part in held.values()),
        version.reason,
        gained,
        lost,
        max(0, (gate.get("gained") or 0) - len(gained)),
        max(0, (gate.get("lost") or 0) - len(lost)),
    )


def _of_all(name: str, held: dict[str, dict[str, Any]]) -> str:
    several = len(held) > 1
    words = [f"{c}: {words_of(name, p)}" if several else words_of(name, p) for c, p in held.items()]
    return "; ".join(words) or "–"


def _state(version: Version, champion: int) -> str:
    if version.number == champion:
        return "serves"
    if version.pruned:
        return "pruned"
    return "kept" if version.kept else "refused"
