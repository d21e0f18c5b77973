"""What the routes of one app share, made once by the app factory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from backend.predictor import Predictor
from backend.settings import Settings
from backend.store import Store
from backend.working_copies import WorkingCopies


@dataclass(frozen=True)
class Services:
    """The database, the predictor, the working copies and the settings of an app."""

    settings: Settings
    store: Store
    predictor: Predictor
    copies: WorkingCopies


def services() -> Services:
    """The services of the app that answers the current request."""
    return cast(Services, current_app.extensions["tiebreak"])
