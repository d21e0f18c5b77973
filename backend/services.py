"""What the routes of one app share, made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from backend.champion import Champions
from backend.engine import LocalEngine
from backend.explainer import Explainer
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.pool_counts import PoolCounting
from backend.predictor import Predictor
from backend.settings import Settings, label_studio_access
from backend.shared_files import shared_files
from backend.store import Store
from backend.trials import Trials
from backend.working_copies import WorkingCopies, working_copies


@dataclass(frozen=True)
class Services:
    """What an app reads, predicts, explains and counts with."""

    settings: Settings
    store: Store
    predictor: Predictor
    copies: WorkingCopies
    champions: Champions
    trials: Trials
    counting: PoolCounting


def make_services(settings: Settings) -> Services:
    """Open the database, up to date. Loads no weights and talks to nobody yet."""
    url, api_key = label_studio_access(settings)
    store = Store(settings.database_address)
    store.migrate()
    copies = working_copies(settings)
    client = LabelStudio(url, api_key, settings.label_studio_timeout)
    champions = Champions(store, settings.data_dir, shared_files(settings))
    fetcher, engine = ImageFetcher(settings, client), LocalEngine(settings)
    predictor = Predictor(settings, store, champions, fetcher, engine)
    trials = Trials(settings, store, fetcher, Explainer(settings, store, champions, engine), client)
    return Services(settings, store, predictor, copies, champions, trials, PoolCounting())


def services() -> Services:
    """The services of the app that answers the current request."""
    return cast(Services, current_app.extensions["tiebreak"])
