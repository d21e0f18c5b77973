"""Accepting the version's own answers under a promise, and taking them back.

A run is written down with all its tasks before anything is sent, and each annotation's number as
soon as Label Studio has given it. A command that was killed is gone on with by the same command:
what Label Studio holds with the run's mark is not sent again. Should a request still have been on
its way when that was looked at, the second annotation is found and deleted at the end.

Taking back goes by the marks alone (:mod:`backend.auto_marks`), so it finds every one, also what
the tables never heard of, and may be repeated after a kill. It stops a run that is under way: a run
looks before each annotation whether it is still wanted, and deletes the one that it made meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend import clock
from backend.auto_marks import marked, run_of
from backend.auto_plan import Plan
from backend.batches import batched_lists
from backend.errors import LabelStudioNotFound, LeaseLost, SetupError
from backend.labels import Annotation
from backend.labelstudio import LabelStudio
from backend.lease import has_ended
from backend.promises import ACCEPTING, DONE, PAUSED, UNDONE, covered_tasks
from backend.store import Store
from backend.sync import controls_of
from backend.tables import AutoLabel, AutoRun, Project

AT_ONCE = 100
Tell = Callable[[int, int], None]


def open_run(session: Session, project_id: int) -> AutoRun | None:
    """The run that has not been seen to end."""
    query = select(AutoRun).where(AutoRun.project_id == project_id, AutoRun.state == ACCEPTING)
    return session.scalars(query.order_by(AutoRun.id)).first()


def begin_run(
    session: Session, project_id: int, plan: Plan, max_error: float, confidence: float
) -> AutoRun:
    """Write down a run with its tasks. :class:`SetupError` while a promise is paused, where there
    is nothing to accept, or where the plan is out of date."""
    paused = select(AutoRun.id).where(AutoRun.project_id == project_id, AutoRun.state == PAUSED)
    if session.scalar(paused.limit(1)) is not None:
        raise SetupError(
            "A promise of this project is paused, because its checks contradict it.",
            mend=f"Take its answers back: tiebreak auto-label {project_id} --undo",
        )
    if not plan.accepted:
        raise SetupError(" ".join(["There is nothing to accept.", *_reasons(plan)]))
    # Two commands may have planned at the same time: the first to come here begins.
    session.get_one(Project, project_id, with_for_update=True)
    covered = covered_tasks(session, project_id)
    if open_run(session, project_id) or any(
        one.task_id in covered for one in [*plan.accepted, *plan.checks]
    ):
        raise SetupError(
            "Another command began to accept answers meanwhile.",
            mend=f"See how far it is: tiebreak auto-label {project_id}",
        )
    run = AutoRun(project_id=project_id, created_at=clock.now(), state=ACCEPTING)
    run.version, run.control = plan.version, plan.control.name
    run.max_error, run.confidence = max_error, confidence
    run.promise = [asdict(promise) for promise in plan.promises]
    run.audit = plan.audit
    session.add(run)
    session.flush()
    for check, candidates in ((False, plan.accepted), (True, plan.checks)):
        for one in candidates:
            row = AutoLabel(run_id=run.id, task_id=one.task_id, choice=one.choice, check=check)
            row.sureness = one.sureness
            session.add(row)
    return run


def _reasons(plan: Plan) -> list[str]:
    if len(plan.promises) == 1:
        return [plan.promises[0].reason]
    named = zip(plan.classes, plan.promises, strict=True)
    return [f"{name}: {promise.reason}" for name, promise in named]


class Accepting:
    """The writing of one run's annotations by one command, whose name is ``owner``.

    ``seconds``: a command that is silent for so long may be taken over from, at once where its
    process has ended on this machine.
    """

    def __init__(
        self, store: Store, client: LabelStudio, run_id: int, owner: str, seconds: float
    ) -> None:
        self._store, self._client = store, client
        self._run_id, self._owner = run_id, owner
        with store.write() as session:
            run = session.get_one(AutoRun, run_id, with_for_update=True)
            works = run.heartbeat_at > clock.now() - seconds and not has_ended(run.owner)
            if run.owner not in ("", owner) and works:
                raise SetupError(
                    "Another command is accepting answers in this project.",
                    mend=f"Wait for it; if it was killed, try again in {seconds:.0f} s.",
                )
            run.owner, run.heartbeat_at = owner, clock.now()
            self._project_id = run.project_id
            project = session.get_one(Project, run.project_id)
            controls = [c for c in controls_of(project) if c.name == run.control]
            if not controls:
                raise SetupError(
                    f'The labelling config no longer has the question "{run.control}".',
                    mend=f"Take the answers back: tiebreak auto-label {run.project_id} --undo",
                )
            self._control = controls[0]
            query = select(AutoLabel).where(
                AutoLabel.run_id == run_id,
                ~AutoLabel.check,
                ~AutoLabel.left_out,
                AutoLabel.annotation_id.is_(None),
            )
            self._left = {row.task_id: row.choice for row in session.scalars(query)}

    def work(self, tell: Tell = lambda done, total: None) -> None:
        """Send what is missing, then end the run. :class:`LeaseLost` when it was taken back, paused
        or taken over meanwhile.

        What fails leaves the run open for the next command, and loses nothing. ``tell`` is told of
        each task.
        """
        total, done = len(self._left), 0
        try:
            for ids in batched_lists(sorted(self._left), AT_ONCE):
                found = self._client.task_annotations(self._project_id, ids)
                for task_id in ids:
                    held = found.get(task_id)
                    self._one(task_id, None if held is None else held[1])
                    done += 1
                    tell(done, total)
            self._remove_doubles()
        except Exception:
            self._let_go()
            raise
        with self._store.write() as session:
            run = self._mine(session)
            run.state, run.owner = DONE, ""

    def _one(self, task_id: int, held: Sequence[Annotation] | None) -> None:
        """One task, with what Label Studio held for it; None where it is gone."""
        for annotation in held or ():
            if run_of(task_id, annotation.result) == self._run_id:
                self._remember(task_id, annotation.id)
                return
        if held is None or held:
            self._remember(task_id, None)
            return
        with self._store.read() as session:
            self._mine(session, hold=False)
        item = {
            "from_name": self._control.name,
            "to_name": self._control.to_name,
            "type": "choices",
            "value": {"choices": [self._left[task_id]]},
        }
        try:
            made = self._client.create_annotation(task_id, marked(task_id, self._run_id, [item]))
        except LabelStudioNotFound:
            self._remember(task_id, None)
            return
        try:
            self._remember(task_id, made)
        except LeaseLost:
            self._client.delete_annotation(made)
            raise

    def _remember(self, task_id: int, annotation_id: int | None) -> None:
        with self._store.write() as session:
            self._mine(session).heartbeat_at = clock.now()
            row = session.get_one(AutoLabel, (self._run_id, task_id))
            row.annotation_id, row.left_out = annotation_id, annotation_id is None

    def _mine(self, session: Session, *, hold: bool = True) -> AutoRun:
        run = session.get_one(AutoRun, self._run_id, with_for_update=hold)
        if run.state != ACCEPTING or run.owner != self._owner:
            raise LeaseLost(
                f"Promise {self._run_id} was taken back, paused or taken over meanwhile; nothing "
                "more is accepted.",
                mend=f"See how it stands: tiebreak auto-label {self._project_id}",
            )
        return run

    def _let_go(self) -> None:
        """Another command may go on at once."""
        with self._store.write() as session:
            run = session.get_one(AutoRun, self._run_id, with_for_update=True)
            if run.owner == self._owner:
                run.owner = ""

    def _remove_doubles(self) -> None:
        """Of each task's annotations of this run, keep the one that is written down."""
        with self._store.read() as session:
            query = select(AutoLabel).where(
                AutoLabel.run_id == self._run_id, AutoLabel.annotation_id.is_not(None)
            )
            kept = {row.task_id: row.annotation_id for row in session.scalars(query)}
        found = self._client.task_annotations(self._project_id, sorted(kept))
        for task_id, (_, held) in found.items():
            for one in held:
                if run_of(task_id, one.result) == self._run_id and one.id != kept[task_id]:
                    self._client.delete_annotation(one.id)


def take_back(
    store: Store,
    client: LabelStudio,
    project_id: int,
    tell: Tell = lambda done, total: None,
) -> int:
    """Delete every annotation that is Tiebreak's own and end its promises; how many there were.

    What a person has changed or confirmed since is that person's, and stays. May be repeated after
    a kill.
    """
    with store.write() as session:
        query = select(AutoRun).where(AutoRun.project_id == project_id).with_for_update()
        for run in session.scalars(query):
            run.state, run.owner = UNDONE, ""
    found = [a.id for _, held in client.annotated(project_id) for a in held if a.automatic]
    for done, annotation_id in enumerate(found, 1):
        client.delete_annotation(annotation_id)
        tell(done, len(found))
    return len(found)
