"""What lies ahead of a version: the labels that a target still takes, and whether more labels pay.

Read from the audit labels of the project's versions (:mod:`model.forecast`) and from how much the
versions agree on images that nobody labelled (:mod:`model.stopping`), and kept with the version's
metrics. A learning curve takes a moment to fit, so this is done when the version's queue is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.champion import artifact_folder
from backend.embedding_rows import from_bytes
from backend.grading import class_probabilities
from backend.label_config import Control
from backend.predictions import chosen_from, head_of
from backend.settings import Settings
from backend.shared_files import shared_files
from backend.shared_versions import fetch_version
from backend.tables import Embedding, ImageSource, Project, Task, TaskImage, Version
from backend.version_metrics import OUTLOOK
from model.artifact import Artifact, load_artifact
from model.errors import ArtifactError
from model.forecast import look_ahead
from model.head import Head
from model.learning_curve import LEAST_AUDITED, AuditPoint
from model.stopping import COMPARISONS, STEP, Agreement, StopHint, kappa, stop_hint

ASKED = 2_000
"""Unlabelled images that two versions are compared on: those with the smallest digests, a fixed
draw by chance."""


@dataclass(frozen=True)
class Chain:
    """Versions ``STEP`` labels apart, each compared with the one before.

    ``version`` is the last of them, which learned from ``labels``.
    """

    version: int
    labels: int
    agreements: tuple[Agreement, ...] = ()

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Chain:
        """What :meth:`written` wrote."""
        agreements = tuple(Agreement(**each) for each in kept["agreements"])
        return cls(kept["version"], kept["labels"], agreements)

    def written(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"agreements": [asdict(each) for each in self.agreements]}


def outlook_of(
    session: Session,
    project: Project,
    controls: Sequence[Control],
    version: Version,
    settings: Settings,
) -> dict[str, Any]:
    """What is kept of a version under ``OUTLOOK``, as plain values.

    Versions on another network have a learning curve of their own and say nothing here. Those that
    the gate refused count: the curve is that of trainings, not of what serves.
    """
    past = _past(session, version)
    learned = _learned(version.metrics.get("audit") or {})
    before = next((row[OUTLOOK] for row in reversed(past[:-1]) if row[OUTLOOK]), None)
    chain = Chain(version.number, learned)
    if before:
        known = Chain.read(before["chain"])
        chain = _longer(session, project, controls, version, learned, known, settings)
    forecasts, hints = {}, []
    for control in controls:
        points = _points(past, control.name)
        if not points:
            continue
        [found], curve = look_ahead(points, [settings.target_accuracy], seed=settings.seed)
        forecasts[control.name] = asdict(found) | {"sentence": found.sentence}
        least = settings.stop_gain / 100
        hints.append(stop_hint(chain.agreements, curve, least_gain=least))
    return {
        "forecasts": forecasts,
        "stop": asdict(_the_least_sure(hints)) if hints else None,
        "chain": chain.written(),
    }


def _past(session: Session, version: Version) -> list[dict[str, Any]]:
    """Number, audit points and outlook of the versions on the same network up to this one."""
    rows = session.execute(
        select(Version.number, Version.metrics["audit"], Version.metrics[OUTLOOK])
        .where(
            Version.project_id == version.project_id,
            Version.backbone == version.backbone,
            Version.number <= version.number,
        )
        .order_by(Version.number)
    )
    return [{"number": n, "audit": audit or {}, OUTLOOK: outlook} for n, audit, outlook in rows]


def _points(past: Sequence[Mapping[str, Any]], control: str) -> list[AuditPoint]:
    found = (row["audit"].get(control) for row in past)
    return [
        AuditPoint(point["labels"], point["right"], _audited(point))
        for point in found
        if point and point["labels"]
    ]


def _audited(point: Mapping[str, int]) -> int:
    """Audit labels of a version; where they were too few to measure it, as many as there were."""
    return point["audited"] or min(point.get("groups", 0), LEAST_AUDITED - 1)


def _learned(audit: Mapping[str, Mapping[str, int]]) -> int:
    return max((point["labels"] for point in audit.values()), default=0)


def _the_least_sure(hints: Sequence[StopHint]) -> StopHint:
    """Labelling ends when it has nothing to give to any control."""
    order = {None: 0, False: 1, True: 2}
    return min(hints, key=lambda hint: order[hint.stop])


def _heads(session: Session, settings: Settings, project_id: int, number: int) -> Artifact:
    """A version's heads, which need no network to be compared."""
    folder, shared = artifact_folder(settings.data_dir, project_id, number), shared_files(settings)
    row = session.get(Version, (project_id, number))
    if shared is not None and row is not None and row.files:
        fetch_version(shared, folder, project_id, number, row.files)
    return load_artifact(folder)


def _longer(
    session: Session,
    project: Project,
    controls: Sequence[Control],
    version: Version,
    labels: int,
    chain: Chain,
    settings: Settings,
) -> Chain:
    """The chain with this version, when it has learned from enough more labels."""
    if chain.labels <= labels < chain.labels + STEP:
        return chain
    agreements = chain.agreements
    if labels > chain.labels:
        agreed = agreement(session, project, controls, settings, (chain.version, version.number))
        if agreed is not None:
            agreements = (*agreements, Agreement(chain.labels, labels, agreed))[-COMPARISONS:]
    return Chain(version.number, labels, agreements)


def agreement(
    session: Session,
    project: Project,
    controls: Sequence[Control],
    settings: Settings,
    numbers: tuple[int, int],
) -> float | None:
    """Cohen's kappa of two versions on images without a label; of several controls the smallest.

    Of a multiple choice every class of every image is one answer, yes or no. None where the files
    of a version are gone or no image is left.
    """
    try:
        before, after = (_heads(session, settings, project.id, n) for n in numbers)
    except ArtifactError:
        return None
    found = []
    for control in controls:
        one, other = head_of(before, control), head_of(after, control)
        images = _unlabelled(session, project.id, control.data_key, before, after)
        if one is None or other is None or not len(images):
            continue
        answers = 2 if control.multiple else len(control.classes)
        said, now = _said(one, control, images), _said(other, control, images)
        found.append(kappa(said, now, answers))
    return min(found, default=None)


def _said(head: Head, control: Control, images: NDArray[Any]) -> NDArray[np.int64]:
    probabilities = class_probabilities(head, control, images)
    if control.multiple:
        return (probabilities >= chosen_from(head, control.classes)).ravel().astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def _unlabelled(
    session: Session, project_id: int, data_key: str, before: Artifact, after: Artifact
) -> NDArray[Any]:
    """(n, width) embeddings; none where the two versions read different networks."""
    if before.backbone != after.backbone:
        return from_bytes([])
    query = (
        select(Embedding.vector)
        .join(ImageSource, ImageSource.digest == Embedding.digest)
        .join(TaskImage, TaskImage.source == ImageSource.source)
        .join(Task, (Task.project_id == TaskImage.project_id) & (Task.id == TaskImage.task_id))
        .where(
            TaskImage.project_id == project_id,
            TaskImage.data_key == data_key,
            Embedding.backbone == before.backbone,
            ~Task.is_labeled,
            Task.annotations == 0,
        )
        .order_by(Embedding.digest)
        .limit(ASKED)
    )
    return from_bytes(list(session.scalars(query)))
