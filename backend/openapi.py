"""The OpenAPI 3.1 description of the server, made of the routes, the payloads and the answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from flask import Flask
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from werkzeug.routing import IntegerConverter, Rule

from backend.answers import ErrorAnswer
from backend.described import Description, description_of
from backend.doors import BEARER_PATHS, WEBHOOK
from backend.http_errors import ERRORS
from backend.payloads import LARGEST_ID
from backend.request_ids import REQUEST_ID_HEADER, WELL_FORMED
from backend.secrets import SECRET_HEADER

ALWAYS = (400, 414, 417, 429, 431, 500)
"""Any request may be malformed, too long, one too many, or run into an error of ours."""
CLOSED = (401, 403, 503)
WITH_BODY = (413, 415)
UNDESCRIBED_METHODS = frozenset({"HEAD", "OPTIONS"})
NUMBER = {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}

Json = dict[str, Any]


def describe(app: Flask) -> Json:
    """The description of every route of ``app``.

    Raises:
        AttributeError: a view says nothing about itself.
    """
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    described = [(rule, app.view_functions[rule.endpoint]) for rule in rules]
    schemas = _Schemas()
    paths: Json = {}
    for rule, view in described:
        for method in sorted((rule.methods or set()) - UNDESCRIBED_METHODS):
            operation = _operation(rule, view, description_of(view), schemas)
            paths.setdefault(template(rule.rule), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tiebreak",
            "version": version("tiebreak"),
            "description": "Every GET is answered to HEAD too, without its body, and OPTIONS with "
            "the methods of a route. Another method is answered with 405 and Allow, and a path "
            "that leads nowhere with 404, both with an ErrorAnswer.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
                "webhook": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
            },
            "headers": {
                REQUEST_ID_HEADER: {
                    "description": "What to look for in the logs",
                    "schema": _request_id(),
                }
            },
        },
    }


def template(rule: str) -> str:
    """A route as OpenAPI writes it: ``/api/projects/{project_id}``."""
    return re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"{\1}", rule)


class _Schemas:
    """The schemas that operations refer to, each once."""

    def __init__(self) -> None:
        self.found: Json = {}

    def refer(self, model: Any, mode: JsonSchemaMode) -> Json:
        """A reference to the schema of a model, which is kept."""
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        place = "#/components/schemas/{model}"
        schema = adapter.json_schema(mode=mode, ref_template=place)
        self.found |= schema.pop("$defs", {})
        self.found[model.__name__] = schema
        return {"$ref": place.format(model=model.__name__)}


def _operation(
    rule: Rule, view: Callable[..., Any], description: Description, schemas: _Schemas
) -> Json:
    summary, _, rest = (inspect.getdoc(view) or "").partition("\n")
    operation: Json = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": summary,
        "description": rest.strip(),
        "parameters": [*_parameters(rule, description)],
        "responses": {
            "200": _success(description, schemas),
            **_errors(rule, _statuses(rule, description), schemas),
        },
        "security": [] if description.open else _security(rule),
    }
    if description.body is not None:
        schema = schemas.refer(description.body, "validation")
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _security(rule: Rule) -> list[Json]:
    found: list[Json] = [{"basic": []}]
    if rule.rule.startswith(BEARER_PATHS):
        found.append({"token": []})
    if rule.endpoint == WEBHOOK:
        found.append({"webhook": []})
    return found


def _parameters(rule: Rule, description: Description) -> Iterable[Json]:
    for name in sorted(rule.arguments):
        integer = isinstance(rule._converters[name], IntegerConverter)
        schema = NUMBER if integer else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, schema in description.query.items():
        yield {"name": name, "in": "query", "required": False, "schema": schema}
    yield {
        "name": REQUEST_ID_HEADER,
        "in": "header",
        "required": False,
        "schema": _request_id(),
    }


def _request_id() -> Json:
    return {"type": "string", "pattern": f"^{WELL_FORMED.pattern}$"}


def _success(description: Description, schemas: _Schemas) -> Json:
    if description.answer is None:
        content: Json = {description.media: {}}
    else:
        schema = schemas.refer(description.answer, "serialization")
        content = {description.media: {"schema": schema}}
    return {"description": "Done", "headers": _headers(), "content": content}


def _statuses(rule: Rule, description: Description) -> set[int]:
    found = {*ALWAYS, *description.errors}
    found |= set() if description.open else {*CLOSED}
    found |= {*WITH_BODY} if description.body else set()
    return found | ({404} if rule.arguments else set())


def _errors(rule: Rule, statuses: Iterable[int], schemas: _Schemas) -> Json:
    content: Json = {"application/json": {"schema": schemas.refer(ErrorAnswer, "serialization")}}
    if not rule.rule.startswith("/api/"):
        content["text/html"] = {}  # to browsers
    return {
        str(status): {
            "description": ERRORS[status].message,
            "headers": _headers(),
            "content": content,
        }
        for status in sorted(statuses)
    }


def _headers() -> Json:
    return {REQUEST_ID_HEADER: {"$ref": f"#/components/headers/{REQUEST_ID_HEADER}"}}
