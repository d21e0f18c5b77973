"""The plots of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backend.experiment_page import Figure, plain_figure

Row = dict[str, Any]

# Told apart by shape too, and as well on a light as on a dark page.
LOOKS = {
    "features": ("#3b82c4", "circle"),
    "features+augment": ("#2a9d8f", "diamond"),
    "finetune": ("#e07b39", "square"),
    "scratch": ("#9b6bb3", "triangle-up"),
}
QUALITY = (
    ("macro_f1", "macro F1"),
    ("roc_auc", "area under the ROC curve"),
    ("log_loss", "log loss, nats"),
    ("ece", "calibration error"),
)
ROW_HEIGHT = 30


def name_of(row: Row) -> str:
    """How a row is called in the plots."""
    return f"{row['backbone']} · {row['mode']}"


def accuracy_figure(rows: Sequence[Row]) -> Figure:
    """Accuracy with its interval, the best row on top."""
    figure = go.Figure([_dots(part, "accuracy", 100) for part in _by_mode(rows)])
    figure.update_xaxes(title="accuracy, %")
    return _finished(figure, rows, 110, legend=True)


def quality_figure(rows: Sequence[Row]) -> Figure:
    """The other measures with their intervals, in the order of the accuracy."""
    height = _height(rows, 170, 2)
    figure = make_subplots(
        rows=2, cols=2, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=70 / height
    )
    for place, (metric, title) in enumerate(QUALITY):
        where = {"row": place // 2 + 1, "col": place % 2 + 1}
        for part in _by_mode(rows):
            figure.add_trace(_dots(part, metric, 1).update(showlegend=False), **where)
        figure.update_xaxes(title=title, rangemode="normal", **where)
    return _finished(figure, rows, 170, panels=2)


def time_figure(rows: Sequence[Row]) -> Figure:
    """Accuracy against the time that learning took."""
    figure = go.Figure()
    for part in _by_mode(rows):
        colour, symbol = LOOKS[part[0]["mode"]]
        figure.add_scatter(
            x=[row["seconds"] for row in part],
            y=[_scaled(row, "accuracy", "value", 100) for row in part],
            text=[row["backbone"] for row in part],
            name=part[0]["mode"],
            mode="markers+text",
            textposition="top center",
            cliponaxis=False,
            marker={"color": colour, "symbol": symbol, "size": 12},
            hovertemplate="%{text}<br>%{y:.1f} % after %{x:,.0f} s<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title="seconds of learning, all in all", type="log", dtick=1)

    figure.update_yaxes(title="accuracy, %")
    figure.update_layout(height=420)
    return plain_figure(figure, legend=True)


def cost_figure(rows: Sequence[Row]) -> Figure:
    """Parameters, in all and trained, and the seconds of one pass."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    names = [name_of(row) for row in rows]
    for key, label, colour in (
        ("parameters", "in all", "#8a94a3"),
        ("trainable", "trained", "#e07b39"),
    ):
        figure.add_bar(
            x=[row[key] for row in rows],
            y=names,
            orientation="h",
            name=label,
            marker={"color": colour},
            hovertemplate="%{y}<br>%{x:,} parameters %{fullData.name}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_bar(
        x=[row["seconds_per_epoch"] for row in rows],
        y=names,
        orientation="h",
        showlegend=False,
        marker={"color": [LOOKS[row["mode"]][0] for row in rows]},
        hovertemplate="%{y}<br>%{x:,.1f} s<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="parameters", row=1, col=1)
    figure.update_xaxes(title="seconds per epoch", row=1, col=2)
    figure.update_layout(bargap=0.35)
    return _finished(figure, rows, 120, legend=True)


FIGURES: tuple[tuple[str, str, str, Callable[[Sequence[Row]], Figure]], ...] = (
    ("accuracy", "Accuracy", "The share of test images that are called right.", accuracy_figure),
    (
        "quality",
        "Other measures",
        "In the order of the accuracy. A gap in a line: too few images to tell.",
        quality_figure,
    ),
    (
        "time",
        "What a better network costs",
        "Reading, embedding, tuning and fitting; not the test.",
        time_figure,
    ),
    (
        "cost",
        "Size and speed",
        "Where the backbone stays as it is, an epoch is one pass of embedding and fitting.",
        cost_figure,
    ),
)


def _by_mode(rows: Iterable[Row]) -> list[list[Row]]:
    found = [[row for row in rows if row["mode"] == mode] for mode in LOOKS]
    return [part for part in found if part]


def _scaled(row: Row, metric: str, key: str, scale: float) -> float | None:
    value = row["metrics"][metric][key]
    return None if value is None else scale * value


def _dots(rows: Sequence[Row], metric: str, scale: float) -> go.Scatter:
    colour, symbol = LOOKS[rows[0]["mode"]]
    values = [_scaled(row, metric, "value", scale) for row in rows]
    known = [0.0 if value is None else value for value in values]
    high, low = (
        [
            abs((_scaled(row, metric, end, scale) or 0.0) - at)
            for row, at in zip(rows, known, strict=True)
        ]
        for end in ("high", "low")
    )
    digits = ".1f" if scale == 100 else ".3f"
    return go.Scatter(
        x=values,
        y=[name_of(row) for row in rows],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": high,
            "arrayminus": low,
            "color": colour,
            "thickness": 1.5,
            "width": 4,
        },
        name=rows[0]["mode"],
        legendgroup=rows[0]["mode"],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10},
        hovertemplate=f"%{{y}}<br>%{{x:{digits}}}<extra></extra>",
    )


def _finished(
    figure: go.Figure, rows: Sequence[Row], extra: int, *, panels: int = 1, legend: bool = False
) -> Figure:
    # From the bottom up, so that the best row is on top.
    order = [name_of(row) for row in reversed(rows)]
    figure.update_yaxes(categoryorder="array", categoryarray=order, automargin=True)
    figure.update_layout(height=_height(rows, extra, panels))
    return plain_figure(figure, legend=legend)


def _height(rows: Sequence[Row], extra: int, panels: int) -> int:
    return extra + panels * max(4, len(rows)) * ROW_HEIGHT
