"""What is, against what is wanted: the next missing step of a project, until nothing is missing.

Wanted:

1. the tables hold what Label Studio holds;
2. every image has an embedding by the backbone, and a group of near-duplicates;
3. the champion has learned from every label, or waits for a reason that can be read;
4. every unlabelled task has its place in the champion's order and carries its prediction, and Label
   Studio goes by that order.

Each step is idempotent and commits before the next, so a killed trainer loses at most one step. One
that fails does not hold up those that can do without it: see :mod:`backend.troubles`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock
from backend.attempts import Attempts
from backend.dataset import LearningState, learning_state
from backend.finetuning import FineTuning
from backend.hints import Look, close_request, forget_hints, pending_look
from backend.image_steps import ImageSteps
from backend.log_context import following, log_context
from backend.metrics import STEPS, TRAINING_SECONDS
from backend.outlook_steps import OutlookSteps
from backend.projects import newest_version, outside_labels
from backend.promise_steps import PromiseSteps
from backend.quality_steps import QualitySteps
from backend.queue_steps import QueueSteps
from backend.sync import SyncReport, look_at_changes, look_at_everything, look_at_tasks
from backend.tables import Project, version_name
from backend.tools import Tools
from backend.training import TOO_LITTLE, train
from backend.webhook_steps import WebhookSteps
from model.artifact import Artifact

log = logging.getLogger(__name__)

SOON = 0.1
WORTH_TELLING = 0.01
"""Seconds from which on a step that had nothing to do is told of all the same."""
COMPARE_ALL_SECONDS = 3600.0
"""How often everything is compared, not only what Label Studio dates as changed."""


class Reconciler:
    """Brings one project to its wanted state."""

    def __init__(self, tools: Tools, project_id: int) -> None:
        self.tools = tools
        self.project_id = project_id
        self._wake_at = 0.0
        self._said: str | None = None
        self._waited: str | None = None
        self._tried_in_vain = ""
        self._webhooks = WebhookSteps(tools, project_id)
        self._following: Sequence[str] = ()
        self._queue = QueueSteps(tools, project_id, self._say)
        self._images = ImageSteps(tools, project_id, self._say, self._wake_before)
        self._outlook = OutlookSteps(tools, project_id, self._wake_before)
        self._quality = QualitySteps(tools, project_id, self._wake_before)
        self._promises = PromiseSteps(tools, project_id)
        self._finetuning = FineTuning(tools, project_id, self._wake_before)

    def run(self, stopping: Callable[[], bool]) -> float:
        """Do every missing step, or what there is time for; the time at which to go on."""
        steps = {
            "look": self._look,
            "promise": self._promises.promise,
            "recover": self._queue.recover,
            "open": self._queue.open,
            "embed_labelled": self._images.embed_labelled,
            "group_labelled": self._images.group_labelled,
            "train": self._train,
            "push": self._queue.push,
            "order": self._queue.order,
            "forecast": self._outlook.forecast,
            "compare": self._outlook.compare,
            "tend": self._finetuning.tend,
            "group_many": self._images.group_many,
            "embed_pool": self._images.embed_pool,
            "group_rest": self._images.group_rest,
            "work": self._finetuning.work,
            "check": self._quality.check,
        }
        self._wake_at = clock.now() + self.tools.settings.poll_seconds
        attempts = Attempts(self.tools, self.project_id, self._wake_before)
        while not stopping():
            gone = self._project().gone
            if gone:
                self._wait("the project no longer exists in Label Studio")
            names = ("look", "tend") if gone else tuple(steps)
            if not any(attempts.run(name, partial(self._do, name, steps[name])) for name in names):
                self._say("")
                return self._wake_at
        return clock.now()

    def _do(self, name: str, step: Callable[[], bool]) -> bool:
        """Do a step. What it logs names the requests whose hints were followed in this turn."""
        with log_context(**following(self._following)):
            began = time.perf_counter()
            try:
                done = step()
            except Exception:
                STEPS.labels(name, "failed").inc()
                raise
            seconds = time.perf_counter() - began
            if done or seconds > WORTH_TELLING:
                log.debug("project %d: %s took %.3f s", self.project_id, name, seconds)
        if done:
            STEPS.labels(name, "done").inc()
        return done

    # A step returns True when it did something: the first step is then asked again, so that a
    # new label never waits for a long row of chunks behind it.

    def _look(self) -> bool:
        look = pending_look(self.tools.store, self.project_id)
        project = self._project()
        poll = self.tools.settings.poll_seconds
        overdue = project.looked_at is None or project.looked_at + poll <= clock.now()
        if look is None and not overdue:
            self._wake_before((project.looked_at or 0.0) + poll)
            return False
        self._following = look.request_ids if look else ()
        with log_context(**following(self._following)):
            self._follow(look, project, overdue)
        return True

    def _follow(self, look: Look | None, project: Project, overdue: bool) -> None:
        if look is None or look.everything or overdue:
            self._say("comparing with Label Studio")
            report = self._look_widely(project)
            if report.remote is not None:
                self._queue.restore(report.remote)
                self._webhooks.mend()
        else:
            store, client = self.tools.store, self.tools.client
            report = look_at_tasks(store, client, self.project_id, look.task_ids, self._fence)
        if report.moved or look is None or look.everything or overdue:
            self.tools.calm.disturb(self.project_id)
        if look is not None:
            forget_hints(self.tools.store, self.project_id, look.ids)
        if report.added or report.removed or report.changed_labels:
            log.info(
                "project %d: %d tasks added, %d removed, %d labels changed",
                self.project_id,
                report.added,
                report.removed,
                report.changed_labels,
            )
        elif self._following:
            log.debug("project %d: nothing has changed", self.project_id)

    def _look_widely(self, project: Project) -> SyncReport:
        compared, tools = project.compared_at, self.tools
        if compared is None or compared + COMPARE_ALL_SECONDS <= clock.now():
            return look_at_everything(tools.store, tools.client, self.project_id, self._fence)
        return look_at_changes(tools.store, tools.client, self.project_id, self._fence)

    def _train(self) -> bool:
        tools, now = self.tools, clock.now()
        backbone, weight = tools.engine.backbone, tools.settings.auto_label_weight
        with tools.store.read() as session:
            project = session.get_one(Project, self.project_id)
            state = learning_state(session, project, backbone, weight)
            outside = outside_labels(session, self.project_id)
        champion = tools.champions.get(self.project_id)
        lost = bool(project.champion) and (champion is None or champion.version != project.champion)
        lost = lost and self._tried_in_vain != state.digest
        if not state.labels:
            self._answer_request(project, now)
            return self._wait(
                "labels that fit the labelling config" if outside else "no labels yet"
            )
        if state.digest == project.attempted and not lost:
            return self._up_to_date(project, champion, now)
        asked = project.train_requested_at is not None
        setup_changed = bool(project.champion) and state.setup != project.attempted_setup
        if not (asked or setup_changed or lost or self._due(project, state.changed, now)):
            return False
        self._following = project.following
        with log_context(**following(self._following)):
            self._learn(project, state, champion, backbone, lost)
        return True

    def _learn(
        self,
        project: Project,
        state: LearningState,
        champion: Artifact | None,
        backbone: str,
        lost: bool,
    ) -> None:
        tools = self.tools
        self._say(f"training on {state.labels} labels")
        # A lost champion is learned anew from the same labels, with nothing to compare it with.
        rival = None if lost else champion
        began = time.perf_counter()
        report = train(
            tools.store,
            tools.leases,
            tools.settings,
            self.project_id,
            backbone,
            rival,
            project.champion,
            self._images.tuned(),
            None,
        )
        TRAINING_SECONDS.labels(report.outcome).observe(time.perf_counter() - began)
        if report.version is not None:
            name = version_name(report.version)
            log.info("project %d: trained %s: %s", self.project_id, name, report.reason)
        if report.reason == TOO_LITTLE:
            self._tried_in_vain = state.digest

    def _answer_request(self, project: Project, read_at: float) -> None:
        """Take back a request for a training that has nothing to learn, of before the labels were
        read; nothing is followed then either."""
        if project.train_requested_at is not None or project.following:
            with self.tools.store.write() as session:
                self._fence(session)
                kept = session.get_one(Project, self.project_id)
                if close_request(session, kept, read_at):
                    kept.following = []

    def _up_to_date(self, project: Project, champion: Artifact | None, read_at: float) -> bool:
        self._answer_request(project, read_at)
        with self.tools.store.read() as session:
            # A refused fine-tune has kept nobody from learning the labels.
            newest = newest_version(session, self.project_id, refused_fine_tunes=False)
        if newest is None:
            return self._wait(TOO_LITTLE)
        if champion is not None and champion.version == newest.number:
            # A later attempt that made no version had too little to learn from.
            learned = champion.manifest.get("labels_digest", project.attempted)
            if learned != project.attempted:
                return self._wait(TOO_LITTLE)
        if newest.number == project.champion:
            return self._wait("")
        if newest.kept:
            serving = version_name(project.champion)
            return self._wait(f"new labels, because {serving} was put back by hand")
        why = newest.reason.removeprefix("Refused: ").rstrip(".")
        return self._wait(f"new labels, because {version_name(newest.number)} was refused ({why})")

    def _due(self, project: Project, changed: int, now: float) -> bool:
        settings = self.tools.settings
        changed_at = project.changed_at or now
        if changed < settings.min_new_labels:
            idle_at = changed_at + settings.idle_train_seconds
            self._wake_before(idle_at)
            self._wait(f"{changed} of {settings.min_new_labels} changed labels for a training")
            return now >= idle_at
        if project.due_since is None:
            with self.tools.store.write() as session:
                self._fence(session)
                session.get_one(Project, self.project_id).due_since = now
            project.due_since = now
        quiet_at = changed_at + settings.quiet_seconds
        if now >= min(quiet_at, project.due_since + settings.max_wait_seconds):
            return True
        self._wake_before(now + SOON)
        self._wait("a quiet moment to train in")
        return False

    def _fence(self, session: Session) -> None:
        """LeaseLost when what was found out is another trainer's to write down by now."""
        self.tools.leases.check(session, self.project_id)

    def _project(self) -> Project:
        with self.tools.store.read() as session:
            return session.scalars(select(Project).where(Project.id == self.project_id)).one()

    def _say(self, activity: str) -> None:
        if activity == self._said:
            return
        self._said = activity
        with self.tools.store.write() as session:
            session.get_one(Project, self.project_id).activity = activity

    def _wait(self, reason: str) -> bool:
        if reason != self._waited:
            self._waited = reason
            with self.tools.store.write() as session:
                session.get_one(Project, self.project_id).waiting = reason
        return False

    def _wake_before(self, moment: float | None) -> None:
        if moment is not None:
            self._wake_at = min(self._wake_at, moment)
