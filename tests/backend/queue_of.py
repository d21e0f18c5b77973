"""The queue of project 1 as the trainer makes and sends it, without Label Studio."""

from __future__ import annotations

from dataclasses import dataclass

from backend.champion import Champions
from backend.ordering import make_order
from backend.orders import newest_order
from backend.predictions import Prediction
from backend.push_plan import PushPlan, plan_push
from backend.settings import Settings
from backend.tables import Order, Task
from model.artifact import Artifact
from tests.backend.conftest import BACKBONE, Tables


def serving(tables: Tables, settings: Settings) -> Artifact | None:
    """The version that serves."""
    return Champions(tables.store, settings.data_dir).get(1)


def make_anew(tables: Tables, settings: Settings, backbone: str = BACKBONE) -> Order:
    """Make the next order of what serves, and write it down."""
    artifact = serving(tables, settings)
    with tables.store.read() as session:
        network = artifact.backbone if artifact else backbone
        order = make_order(session, tables.project(), artifact, settings, network, "asked for")
    with tables.store.write() as session:
        session.add(order)
    return order


def order_of(tables: Tables, settings: Settings) -> Order:
    """The order of what serves; made first where there is none."""
    artifact = serving(tables, settings)
    with tables.store.read() as session:
        order = newest_order(session, 1, artifact.version if artifact else 0)
    return order or make_anew(tables, settings)


@dataclass(frozen=True)
class Planned:
    """What Label Studio lacks, and all the predictions of it."""

    plan: PushPlan
    predictions: list[tuple[int, Prediction]]

    @property
    def name(self) -> str:
        """What Label Studio calls the order."""
        return self.plan.name


def plan(tables: Tables, settings: Settings) -> Planned:
    """What Label Studio lacks."""
    order = order_of(tables, settings)
    with tables.store.read() as session:
        artifact = serving(tables, settings)
        found = plan_push(session, tables.project(), artifact, order, settings)
        return Planned(found, found.part(session, 0, len(found)))


def pushed(tables: Tables, sent: Planned) -> None:
    """Write down that Label Studio confirmed a plan."""
    with tables.store.write() as session:
        for task_id, prediction in sent.predictions:
            task = session.get_one(Task, (1, task_id))
            task.pushed_version, task.pushed_order = sent.plan.version, sent.plan.order
            task.pushed_score = prediction.score


def bare_order(project_id: int, version: int, number: int) -> Order:
    """An order by margin of one known image, with no places."""
    return Order(
        project_id=project_id,
        version=version,
        number=number,
        created_at=0.0,
        reason="",
        strategy="margin",
        audit_share=0.1,
        pace=0.1,
        known=1,
        picks=[],
        places=b"",
        scale={},
    )
