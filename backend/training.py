"""One training: labels and embeddings → heads → gate → a version on disk → the champion.

Nothing that serves is touched before the last transaction, which writes the version, the champion
and what was learned together. Killed before it, a training leaves at most a folder that the next
one clears away: see :mod:`backend.version_files`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from backend import clock
from backend.candidate import Candidate, challenge, serving_number
from backend.champion import replace_champion
from backend.dataset import LearningState
from backend.experiment_log import log_version
from backend.hints import close_request
from backend.lease import Leases
from backend.pool_priors import PoolPriors
from backend.settings import Settings
from backend.shared_files import shared_files
from backend.store import Store
from backend.tables import Label, Project, Version
from backend.task_rows import AGREED, GONE
from backend.tuned_networks import TunedNetwork
from backend.version_files import laid_down
from model.artifact import Artifact

CHANGED_MEANWHILE = "another version was promoted by hand meanwhile, so it is done again"
TOO_LITTLE = "labels of at least two different classes are needed"


@dataclass(frozen=True)
class TrainingReport:
    """What came out of a training. ``version`` is None when there was too little to learn from."""

    version: int | None
    kept: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What came of it in a word or two, out of four."""
        if self.version is not None:
            return "kept" if self.kept else "refused"
        return "too few labels" if self.reason == TOO_LITTLE else "overtaken"


def train(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    backbone: str,
    champion: Artifact | None,
    serving: int | None = None,
    tuned: TunedNetwork | None = None,
    priors: PoolPriors | None = None,
) -> TrainingReport:
    """Fit a challenger on all labels and let the gate decide whether it becomes the champion.

    ``backbone`` is the identity of the original one; with ``tuned`` the heads read the embeddings
    of that network, which came from it. ``serving`` is the number of the version that served when
    ``champion`` was read, where that is not ``champion`` itself. ``priors`` of earlier trainings
    save time. Nothing comes of the training when another one serves at its end.
    """
    started, serving = clock.now(), serving_number(champion, serving)
    found = challenge(store, settings, project_id, backbone, champion, serving, tuned, priors)
    if not isinstance(found, Candidate):
        _finish(store, leases, project_id, found, started, None, serving)
        return TrainingReport(None, False, TOO_LITTLE)
    return settle(store, leases, settings, project_id, found)


def settle(
    store: Store,
    leases: Leases,
    settings: Settings,
    project_id: int,
    candidate: Candidate,
    *,
    learned: bool = True,
) -> TrainingReport:
    """Write a candidate down, and make it the champion where the gate says so.

    ``learned``: the labels count as learned even when it was refused. Nothing comes of it when
    another version serves by now.
    """
    artifact, decision = candidate.artifact, candidate.decision
    version = Version(
        project_id=project_id,
        number=artifact.version,
        created_at=clock.now(),
        kept=decision.promote,
        reason=decision.reason,
        labels=candidate.state.labels,
        backbone=artifact.backbone,
        metrics=candidate.metrics,
    )
    state = candidate.state if learned or decision.promote else None
    with laid_down(settings.data_dir, project_id, artifact, shared_files(settings)) as laid:
        started, serving, version.files = candidate.started, candidate.serving, laid.files
        done = _finish(
            store, leases, project_id, state, started, version, serving, laid.put_in_place
        )
    if not done:
        return TrainingReport(None, False, CHANGED_MEANWHILE)
    log_version(settings, project_id, candidate.title, artifact, candidate.metrics, decision)
    return TrainingReport(artifact.version, decision.promote, decision.reason, candidate.metrics)


def _finish(
    store: Store,
    leases: Leases,
    project_id: int,
    state: LearningState | None,
    started: float,
    version: Version | None,
    serving: int,
    put_in_place: Callable[[], None] = lambda: None,
) -> bool:
    """Write all at once; false, and nothing is written, when another version serves by now.

    Without ``state`` only the version is written: no label counts as learned because of it.
    ``put_in_place`` is called before the version is known to anybody.
    """
    with store.write() as session:
        leases.check(session, project_id)
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.champion != serving:
            return False
        if version is not None:
            if session.get(Version, (project_id, version.number)) is not None:
                return False
            put_in_place()
            session.add(version)
        if state is None:
            return True
        project.attempted, project.attempted_setup = state.digest, state.setup
        project.due_since = None
        close_request(session, project, started)
        if version is None:
            return True
        if version.kept:
            replace_champion(project, version.number)
        for label in session.scalars(select(Label).where(Label.project_id == project_id)):
            if label.status == GONE:
                session.delete(label)
            else:
                label.learned = list(label.choices) if label.status == AGREED else None
    return True
