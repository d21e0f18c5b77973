"""The process that keeps every project in its wanted state.

A step that fails is tried again and then parked, while the other steps and the other projects go
on (:mod:`backend.troubles`); an error that is no step's fault is written into the project's row
with what to do about it. A trainer whose step hangs ends itself (:mod:`backend.watchdog`). While
Label Studio cannot be reached, everything learned keeps serving; when it is back, the next look
finds whatever was missed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from sqlalchemy import select

from backend import clock
from backend.champion import Champions
from backend.engine import make_engine
from backend.errors import LabelStudioUnreachable, LeaseLost
from backend.experiment_log import flush
from backend.finetune_child import FineTuneSlot
from backend.hints import newest_hints
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.lease import Leases, owner_name
from backend.log_context import log_context
from backend.push import Pace
from backend.reconciler import Reconciler
from backend.settings import Settings, label_studio_access
from backend.shared_files import shared_files
from backend.sharing import share_what_is_here
from backend.store import Store
from backend.tables import Project
from backend.tools import Tools
from backend.troubles import LOG_MEND, note, revive
from backend.watch import Hang, Watch
from backend.watchdog import HUNG, Watchdog
from backend.working_copies import working_copies
from model.errors import StorageError, TiebreakError, WeightsError

log = logging.getLogger(__name__)

TICK = 0.1
LONGEST_BACK_OFF = 30.0
STORAGE_SECONDS = 1.0
"""How long to wait for a database that cannot be read or written."""
FAREWELL_SECONDS = 2.0
"""How long a trainer that stops waits for what is on its way to MLflow."""
TURN_SECONDS = 5.0
"""A project with much to do lets the others in after this long, at the end of a step."""


class Trainer:
    """Runs the reconciler for every project whose lease it can get."""

    def __init__(self, settings: Settings) -> None:
        url, api_key = label_studio_access(settings)
        store = Store(settings.database_address)
        store.migrate()
        watch = Watch()
        client = LabelStudio(url, api_key, settings.label_studio_timeout, watch.progress)
        owner = owner_name()
        self.tools = Tools(
            settings=settings,
            store=store,
            client=client,
            fetcher=ImageFetcher(settings, client),
            copies=working_copies(settings),
            engine=make_engine(settings, watch.progress),
            champions=Champions(store, settings.data_dir, shared_files(settings), patient=True),
            leases=Leases(store, owner, settings.lease_seconds),
            pace=Pace(),
            slot=FineTuneSlot(),
            watch=watch,
        )
        self._stop = threading.Event()
        self._no_weights: WeightsError | None = None
        self._wake: dict[int, float] = {}
        self._followed: dict[int, tuple[int, float] | None] = {}
        """Project → the newest hint that its last turn could see."""
        self._leaving = threading.Event()
        self._said = ""

    def stop(self) -> None:
        """Finish the step in hand and return from :meth:`run`."""
        self._stop.set()

    def run(self) -> None:
        """Work until :meth:`stop`. A step that hangs, or takes too long to stop, ends the process.

        Raises:
            WeightsError: the backbone's weights cannot be had, so nothing can be learned.
        """
        settings = self.tools.settings
        longest = max(settings.step_seconds, settings.long_step_seconds)
        dog = Watchdog(self.tools.watch, self._stop, settings.stop_seconds, self._give_up, longest)
        dog.start()
        with contextlib.suppress(StorageError):
            revive(self.tools.store)
        threading.Thread(target=self._share, name="sharing", daemon=True).start()
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        threading.Thread(target=self._load_backbone, name="backbone", daemon=True).start()
        log.info("trainer %s works", self.tools.leases.owner)
        try:
            while not self._stop.is_set():
                self._look_for_work()
                self._take_turns()
                self._stop.wait(TICK)
        finally:
            self._stop.set()
            self.tools.slot.stop()
            self.tools.payoffs.stop()
            self.tools.engine.close()
            heart.join()
            with contextlib.suppress(StorageError):
                self.tools.leases.give_back()
            flush(FAREWELL_SECONDS)
            self.tools.fetcher.close()
            self.tools.client.close()
            self.tools.store.close()
            dog.stop()
        if self._no_weights is not None:
            raise self._no_weights

    def _look_for_work(self) -> None:
        """What hangs from now on is no step of a project."""
        self.tools.watch.begin("Looking for work", self.tools.settings.step_seconds)

    def _share(self) -> None:
        """Send what was made before there was a bucket, if there is one."""
        shared = shared_files(self.tools.settings)
        if shared is not None:
            share_what_is_here(shared, self.tools.store, self.tools.settings, self._stop)

    def _load_backbone(self) -> None:
        """Load the network while the first look is under way."""
        try:
            log.info("the backbone is %s", self.tools.engine.backbone)
        except WeightsError as error:
            self._no_weights = error
            self.stop()

    def _take_turns(self) -> None:
        """Give every project that is due its turn. Without a database nothing can be done."""
        try:
            for project_id in self._due():
                self._reconcile(project_id)
            self._said = ""
        except StorageError as error:
            if str(error) != self._said:
                log.error("%s", _told(error))
            self._said = str(error)
            self._stop.wait(STORAGE_SECONDS)

    def _due(self) -> list[int]:
        hints = newest_hints(self.tools.store)
        with self.tools.store.read() as session:
            rows = session.execute(select(Project.id, Project.retry_at)).all()
        now = clock.now()
        due = []
        for project_id, retry_at in rows:
            # A hint that a turn left waiting, because its look is parked, is no reason for another.
            hint = hints.get(project_id)
            fresh = hint is not None and hint != self._followed.get(project_id)
            if retry_at <= now and (fresh or self._wake.get(project_id, 0.0) <= now):
                self._followed[project_id] = hint
                due.append(project_id)
        return due

    def _reconcile(self, project_id: int) -> None:
        leases = self.tools.leases
        self._look_for_work()
        if not leases.acquire(project_id):
            self._wake[project_id] = clock.now() + leases.seconds / 3
            return
        with log_context(project=project_id):
            self._take_turn(project_id)

    def _take_turn(self, project_id: int) -> None:
        turn_ends = time.monotonic() + TURN_SECONDS

        def stopping() -> bool:
            return self._stop.is_set() or time.monotonic() > turn_ends

        try:
            self._wake[project_id] = Reconciler(self.tools, project_id).run(stopping)
            self._remember(project_id, "", 0)
        except LeaseLost as error:
            log.warning("%s", error)
        except TiebreakError as error:
            self._failed(project_id, _told(error))
            log.warning("project %d: %s", project_id, _told(error))
        except Exception as error:
            self._failed(project_id, f"unexpected {type(error).__name__}; the log has the details")
            log.exception("project %d: unexpected error", project_id)
        finally:
            self._look_for_work()
            self.tools.leases.release(project_id)

    def _failed(self, project_id: int, message: str) -> None:
        with self.tools.store.read() as session:
            failures = session.scalar(select(Project.failures).where(Project.id == project_id)) or 0
        self._remember(project_id, message, failures + 1)

    def _remember(self, project_id: int, error: str, failures: int) -> None:
        with self.tools.store.write() as session:
            project = session.get(Project, project_id)
            if project is None or (not error and not project.error):
                return
            project.error, project.failures = error, failures
            back_off = min(2.0 ** (failures - 1), LONGEST_BACK_OFF) if failures else 0.0
            project.retry_at = clock.now() + back_off if failures else 0.0
            project.activity = ""
        self._wake[project_id] = 0.0 if error else self._wake.get(project_id, 0.0)

    def _give_up(self, hang: Hang | None) -> None:
        """End the process, whatever its threads are at; what is committed stays."""
        if hang is not None:
            log.critical("%s The trainer ends, for another one to take over.", hang.sentence)
        else:
            seconds = self.tools.settings.stop_seconds
            log.warning("The step in hand is given up: it did not end within %g s.", seconds)
        # The database may be what it hangs on.
        farewell = threading.Thread(target=self._leave, args=(hang,), daemon=True)
        farewell.start()
        self.tools.slot.stop()
        self.tools.payoffs.stop()
        farewell.join(FAREWELL_SECONDS)
        logging.shutdown()
        os._exit(HUNG if hang else 0)

    def _leave(self, hang: Hang | None) -> None:
        self._leaving.set()
        try:
            if hang is not None and hang.step:
                with self.tools.store.write() as session:
                    reason = f"It showed no progress for {hang.seconds:.0f} s and was given up."
                    note(session, hang.project_id, hang.step, reason, LOG_MEND, hung=True)
        finally:
            self.tools.leases.give_back()

    def _beat(self) -> None:
        while not self._stop.is_set() and not self._leaving.is_set():
            try:
                self.tools.leases.beat()
            except StorageError as error:
                log.error("the heartbeat could not be written; trying again: %s", error)
            except Exception:
                log.exception("the heartbeat could not be written; trying again")
            self._stop.wait(self.tools.leases.seconds / 3)


def _told(error: TiebreakError) -> str:
    """An error of the loop; of the disk or the database also that the loop goes on."""
    waited_out = isinstance(error, StorageError)
    return f"{error} It is tried again by itself." if waited_out else str(error)


def run_trainer(settings: Settings) -> None:
    """Run a trainer until SIGTERM or ctrl-c.

    Raises:
        LabelStudioUnauthorized: Label Studio refuses the token.
        WeightsError: the backbone's weights cannot be had.
    """
    trainer = Trainer(settings)
    # A refused token is said at once; a Label Studio that is not there yet is waited for.
    with contextlib.suppress(LabelStudioUnreachable):
        trainer.tools.client.whoami()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: trainer.stop())
    trainer.run()
