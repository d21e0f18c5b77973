"""What the routes of one app share, made once by the app factory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from backend.champion import Champions
from backend.predictor import Predictor
from backend.settings import Settings
from backend.store import Store
from backend.trials import Trials


@dataclass(frozen=True)
class Services:
    """The database, the settings, and what predicts and explains, of an app."""

    settings: Settings
    store: Store
    predictor: Predictor
    champions: Champions
    trials: Trials


def services() -> Services:
    """The services of the app that answers the current request."""
    return cast(Services, current_app.extensions["tiebreak"])
