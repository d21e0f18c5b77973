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
from backend.doors import close_doors
from backend.pages import suspicious, thumbnails
from backend.request_ids import RequestIds
from backend.request_metrics import CountedRequests
from backend.services import make_services
from backend.settings import Settings
from backend.web_errors import register_error_handlers
from model.percents import percent
from model.plurals import counted


def create_app(settings: Settings) -> Flask:
    """The server that Label Studio connects to. Loads no weights and talks to nobody yet."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.jinja_env.filters["counted"] = counted
    app.jinja_env.filters["percent"] = percent
    app.extensions["tiebreak"] = make_services(settings)
    app.register_blueprint(protocol.bp)
    app.register_blueprint(api.bp)
    app.register_blueprint(pages.bp)
    app.register_blueprint(project_page.bp)
    app.register_blueprint(queue_page.bp)
    app.register_blueprint(try_page.bp)
    app.register_blueprint(versions_page.bp)
    app.register_blueprint(dataset_page.bp)
    app.register_blueprint(thumbnails.bp)
    app.register_blueprint(suspicious.bp)
    app.register_blueprint(metrics_page.bp)
    app.register_blueprint(openapi_page.bp)
    register_error_handlers(app)
    close_doors(app, settings)
    app.wsgi_app = RequestIds(CountedRequests(app.wsgi_app))  # type: ignore[method-assign]
    return app
