"""What the pages of experiments share: each is one file, with its plots and their script inside."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from flask import Flask
from plotly.offline import get_plotlyjs

from backend.errors import SetupError

PAGES = Path(__file__).with_name("pages")

Figure = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """A figure with the title and the sentence above it; ``key`` is its place in the page."""

    key: str
    title: str
    text: str
    figure: Figure


def render_page(template: str, plots: list[Plot], **text: Any) -> str:
    """The page of a template that extends ``experiment.html``, as HTML."""
    templates = Flask(__name__, template_folder=str(PAGES / "templates")).jinja_env
    return templates.get_template(template).render(
        figures=[{"id": f"plot-{p.key}", "title": p.title, "text": p.text} for p in plots],
        style=(PAGES / "static" / "tiebreak.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        drawings=_script_json({f"plot-{p.key}": p.figure for p in plots}),
        **text,
    )


def write_page(path: Path, html: str) -> None:
    """Write a page; the one that was there stays until it is whole.

    :class:`SetupError` when it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(html, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}).",
            mend="Name a place that can be, with --out.",
        ) from None


def plain_figure(figure: go.Figure, *, legend: bool) -> Figure:
    """A figure as JSON, in the looks that the page gives it."""
    figure.update_layout(
        template="none",
        showlegend=legend,
        margin={"l": 10, "r": 10, "t": 30 if legend else 10, "b": 50},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    figure.update_yaxes(automargin=True)
    plain: Figure = figure.to_plotly_json()
    return plain


def _script_json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value).replace("<", "\\u003c")
