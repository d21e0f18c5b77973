"""The steps about the queue: make an order, send it, and have Label Studio go by it.

Making an order writes it down and sends nothing; sending goes on with what is written down, however
often it was cut short. Of one version a new order is made only when the last one has been sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from backend import clock, labelstudio
from backend.groups import count_known
from backend.hints import newest_hints
from backend.offers import forget_parts, is_settled, settle_share
from backend.ordering import make_order
from backend.orders import newest_order
from backend.push import SAMPLING, Pushing, push, recover_push, serve_order
from backend.push_plan import PushPlan, plan_push
from backend.standing import Counts, count, is_complete, standing, why_due
from backend.sync import controls_of
from backend.tables import Order, Project, Task
from backend.tools import Tools
from model.artifact import Artifact

ENOUGH_TO_PUSH = 500
SHARE_TO_PUSH = 0.1
"""While images are still being embedded, predictions are pushed when this many wait, and as many as
this share of those that were."""


class QueueSteps:
    """The queue of one project. Each step returns True when it did something.

    ``say`` is told what is being done.
    """

    def __init__(self, tools: Tools, project_id: int, say: Callable[[str], None]) -> None:
        self.tools = tools
        self.project_id = project_id
        self._say = say

    @property
    def _pushing(self) -> Pushing:
        tools = self.tools

        def hint_waits() -> bool:
            return self.project_id in newest_hints(tools.store)

        return Pushing(tools.store, tools.client, tools.leases, tools.pace, self._say, hint_waits)

    def restore(self, remote: labelstudio.Project) -> None:
        """Label Studio, as it was just seen, forgets our order when a backend is connected by hand:
        it is told again."""
        served = self._project().served
        if served and (remote.model_version != served or remote.sampling != SAMPLING):
            with self.tools.store.write() as session:
                self.tools.leases.check(session, self.project_id)
                session.get_one(Project, self.project_id).served = ""

    def recover(self) -> bool:
        """Find out what Label Studio holds, where that is not known."""
        project = self._project()
        if not project.pushing:
            return False
        tools = self.tools
        tools.calm.disturb(self.project_id)
        recover_push(tools.store, tools.client, tools.leases, self.project_id, project.champion)
        return True

    def open(self) -> bool:
        """While nothing is learned: the queue opens before any image is looked at."""
        if self._project().champion:
            return False
        return self.push() or (self._newest(0) is None and self._make(None, ""))

    def push(self) -> bool:
        """Send what Label Studio lacks of the order of what serves."""
        project, (ready, artifact) = self._project(), self._serving()
        if not ready or project.gone:
            return False
        order = self._newest(project.champion)
        if order is None:
            return False
        served = project.served == order.name
        if served and self.tools.calm.find(self.project_id, ("sent", order.name)):
            return False
        with self.tools.store.read() as session:
            if artifact and served and not _enough(session, order, artifact.backbone):
                return False
            plan = plan_push(session, project, artifact, order, self.tools.settings)
        if not len(plan):
            self._keep(("sent", order.name), True)
            self._settle(order)
            return self._serve_again(plan)
        push(self._pushing, self.project_id, plan, self.tools.settings.queue_head)
        return True

    def _settle(self, order: Order) -> None:
        """Nothing is left to be ticked or withheld anew."""
        tools, share = self.tools, self.tools.settings.blind_share
        with tools.store.read() as session:
            if is_settled(session, order, share):
                return
        with tools.store.write() as session:
            tools.leases.check(session, self.project_id)
            settle_share(session, order, share)

    def order(self) -> bool:
        """Make a new order when one is due."""
        project, (ready, artifact) = self._project(), self._serving()
        if not ready or project.gone or not controls_of(project):
            return False
        return self._make(artifact, self.tools.engine.backbone)

    def _make(self, artifact: Artifact | None, backbone: str) -> bool:
        """``backbone``: the original's identity, empty where it is not loaded yet."""
        tools = self.tools
        backbone = artifact.backbone if artifact else backbone
        version = artifact.version if artifact else 0
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            before = newest_order(session, self.project_id, version)
            counts = self._count(session, backbone)
            now = standing(session, project, tools.settings, counts)
            reason = why_due(session, version, before, now)
        if not reason:
            return False
        self._say("ordering the queue")
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            order = make_order(session, project, artifact, tools.settings, backbone, reason, counts)
        with tools.store.write() as session:
            tools.leases.check(session, self.project_id)
            session.execute(
                update(Order)
                .where(Order.project_id == self.project_id, Order.version == version)
                .values(places=b"", scale={})
            )
            forget_parts(session, self.project_id, version, order.number)
            session.add(order)
        return True

    def _count(self, session: Session, backbone: str) -> Counts:
        """What is known of the project's images; counted again only while that changes. How many
        tasks wait matters only until then."""
        what = "counts", backbone
        found: Counts | None = self.tools.calm.find(self.project_id, what)
        if found is None:
            found = count(session, self.project_id, backbone)
            if found.complete:
                self._keep(what, found)
        return found

    def _keep(self, what: Hashable, value: object) -> None:
        until = clock.now() + self.tools.settings.poll_seconds
        self.tools.calm.keep(self.project_id, what, value, until)

    def _serving(self) -> tuple[bool, Artifact | None]:
        """Whether what is to serve is there; None stands for what serves without a version."""
        champion = self._project().champion
        if not champion:
            return True, None
        artifact = self.tools.champions.get(self.project_id)
        return artifact is not None and artifact.version == champion, artifact

    def _newest(self, version: int) -> Order | None:
        with self.tools.store.read() as session:
            return newest_order(session, self.project_id, version)

    def _serve_again(self, plan: PushPlan) -> bool:
        if self._project().served == plan.name:
            return False
        with self.tools.store.read() as session:
            pushed = select(Task.id).where(
                Task.project_id == self.project_id,
                Task.pushed_version == plan.version,
                Task.pushed_order == plan.order,
            )
            if session.scalar(pushed.limit(1)) is None:
                return False
        tools = self.tools
        order = (plan.version, plan.order)
        serve_order(tools.store, tools.client, tools.leases, self.project_id, order)
        return True

    def _project(self) -> Project:
        with self.tools.store.read() as session:
            return session.get_one(Project, self.project_id)


def _enough(session: Session, order: Order, backbone: str) -> bool:
    """Whether latecomers are worth a push: all there are, or while images are embedded, many."""
    if is_complete(session, order.project_id, backbone):
        return True
    carry = select(func.count()).where(
        Task.project_id == order.project_id,
        ~Task.is_labeled,
        Task.pushed_version == order.version,
        Task.pushed_order == order.number,
    )
    held = session.scalar(carry) or 0
    _, waiting = count_known(session, order.project_id, backbone)
    return waiting - held >= max(ENOUGH_TO_PUSH, SHARE_TO_PUSH * held)
