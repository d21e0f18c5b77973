"""Tries one step of a project: under watch, and with its failures kept to itself."""

from __future__ import annotations

from collections.abc import Callable

from backend.tools import Tools
from backend.troubles import TITLES, Troubles, is_waited_out
from model.files import is_of_the_disk, storage_error

LONG_STEPS = frozenset(
    {"open", "train", "order", "forecast", "compare", "group_labelled", "group_many", "group_rest"}
    | {"tend", "work", "check"}
)
"""Steps that compute over a whole project before they show anything."""


class Attempts:
    """The steps of one project, each tried when nothing is against it.

    ``wake_before`` is told when to look again at the latest.
    """

    def __init__(self, tools: Tools, project_id: int, wake_before: Callable[[float], None]) -> None:
        self._tools, self._project_id = tools, project_id
        self._troubles = Troubles(tools.store, tools.leases, project_id, wake_before)

    def run(self, name: str, step: Callable[[], bool]) -> bool:
        """What the step gives; true as well when it failed, since others may go on.

        An error that is no fault of the step is passed on: the whole project waits until it is
        over.
        """
        if not self._troubles.may_try(name):
            return False
        settings = self._tools.settings
        seconds = settings.long_step_seconds if name in LONG_STEPS else settings.step_seconds
        self._tools.watch.begin(TITLES[name], seconds, self._project_id, name)
        try:
            done = step()
        except Exception as error:
            if is_of_the_disk(error):
                raise storage_error(
                    f"What comes of “{TITLES[name]}”", settings.data_dir, error
                ) from error
            if is_waited_out(error):
                raise
            self._troubles.failed(name, error)
            return True
        self._troubles.went_well(name)
        return done
