"""The Flask application."""

from __future__ import annotations

from flask import Flask

from backend import (
    api,
    dataset_page,
    metrics_page,
    openapi_page,
    pages,
    project_page,
    protocol,
    queue_page,
    try_page,
    versions_page,
)
from backend.champion import Champions
from backend.doors import close_doors
from backend.engine import LocalEngine
from backend.explainer import Explainer
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.predictor import Predictor
from backend.request_ids import RequestIds
from backend.request_metrics import CountedRequests
from backend.services import Services
from backend.settings import Settings, label_studio_access
from backend.shared_files import shared_files
from backend.store import Store
from backend.trials import Trials
from backend.web_errors import register_error_handlers
from backend.working_copies import working_copies


def create_app(settings: Settings) -> Flask:
    """The server that Label Studio connects to. Loads no weights and talks to nobody yet."""
    url, api_key = label_studio_access(settings)
    store = Store(settings.database_address)
    store.migrate()
    client = LabelStudio(url, api_key, settings.label_studio_timeout)
    champions = Champions(store, settings.data_dir, shared_files(settings))
    fetcher, engine = ImageFetcher(settings, client), LocalEngine(settings)
    predictor = Predictor(settings, store, champions, fetcher, working_copies(settings), engine)
    explainer = Explainer(settings, store, champions, engine)
    trials = Trials(settings, store, fetcher, explainer, client)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.extensions["tiebreak"] = Services(settings, store, predictor, champions, trials)
    app.register_blueprint(protocol.bp)
    app.register_blueprint(api.bp)
    app.register_blueprint(pages.bp)
    app.register_blueprint(project_page.bp)
    app.register_blueprint(queue_page.bp)
    app.register_blueprint(try_page.bp)
    app.register_blueprint(versions_page.bp)
    app.register_blueprint(dataset_page.bp)
    app.register_blueprint(metrics_page.bp)
    app.register_blueprint(openapi_page.bp)
    register_error_handlers(app)
    close_doors(app, settings)
    app.wsgi_app = RequestIds(CountedRequests(app.wsgi_app))  # type: ignore[method-assign]
    return app
