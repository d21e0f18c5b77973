"""The plots of one project, as plain values for plotly's script.

They are written as dictionaries: the package's own classes take a second to load, and a server that
answers Label Studio has no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]

# Told apart by shape too, and as well on a light as on a dark page.
BLUE, ORANGE, GREY = "59, 130, 196", "224, 123, 57", "138, 148, 163"
ROOM = 10
"""Labels to either side of a point that is alone."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy of one version: ``value`` in [0, 1] with its 95% interval, on ``audited`` labels."""

    version: str
    labels: int
    value: float
    low: float
    high: float
    audited: int


@dataclass(frozen=True)
class RandomPoint:
    """What as many random labels would have taught: accuracy with the queue's picks and with
    random ones, and the 95% interval of their difference, after ``labels`` labels."""

    labels: int
    queue: float
    random: float
    low: float
    high: float


def learning_figure(
    points: Sequence[CurvePoint], by_chance: Sequence[RandomPoint], target: float
) -> Figure:
    """Accuracy over labels with its band; beside it the random stream, and the target."""
    x = [point.labels for point in points]
    # The band of one point, and a line through it, would have no width.
    ends = [min(x), max(x)] if min(x) < max(x) else [max(0, x[0] - ROOM), x[0] + ROOM]
    band = {
        "x": x + x[::-1],
        "y": [100 * p.high for p in points] + [100 * p.low for p in points[::-1]],
        "fill": "toself",
        "fillcolor": f"rgba({BLUE}, 0.18)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "mode": "lines",
        "showlegend": False,
    }
    line = {
        "x": x,
        "y": [100 * p.value for p in points],
        "text": [f"{p.version}, {p.audited} audit labels" for p in points],
        "name": "trained versions",
        "mode": "lines+markers",
        "line": {"color": f"rgb({BLUE})", "width": 2},
        "marker": {"size": 8},
        "hovertemplate": "%{x:,} labels: %{y:.1f} %<br>%{text}<extra></extra>",
    }
    if len(points) == 1:
        line["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [100 * (points[0].high - points[0].value)],
            "arrayminus": [100 * (points[0].value - points[0].low)],
        }
    goal = {
        "x": ends,
        "y": [100 * target, 100 * target],
        "name": f"target {100 * target:.4g} %",
        "mode": "lines",
        "line": {"dash": "dot", "width": 1, "color": f"rgb({GREY})"},
        "hoverinfo": "skip",
    }
    return _finished([band, line, *_streams(by_chance), goal], "labels", "accuracy, %")


def _streams(points: Sequence[RandomPoint]) -> list[dict[str, Any]]:
    """The queue's picks, and as many random labels with the interval of their difference."""
    if not points:
        return []
    x = [point.labels for point in points]
    queue = {
        "x": x,
        "y": [100 * p.queue for p in points],
        "name": "the queue's picks, compared",
        "mode": "markers",
        "marker": {"symbol": "diamond", "size": 10, "color": f"rgb({BLUE})"},
        "hovertemplate": "%{x:,} labels by the queue: %{y:.1f} %<extra></extra>",
    }
    random = {
        "x": x,
        "y": [100 * p.random for p in points],
        "name": "as many random labels",
        "mode": "markers",
        "marker": {"symbol": "square-open", "size": 10, "color": f"rgb({ORANGE})"},
        "error_y": {
            "type": "data",
            "symmetric": False,
            # The difference is the queue's share minus the random one.
            "array": [100 * max(0.0, p.queue - p.low - p.random) for p in points],
            "arrayminus": [100 * max(0.0, p.random - (p.queue - p.high)) for p in points],
            "color": f"rgb({ORANGE})",
        },
        "hovertemplate": "%{x:,} labels by chance: %{y:.1f} %<extra></extra>",
    }
    return [queue, random]


def calibration_figure(steps: Sequence[Mapping[str, Any]]) -> Figure:
    """The share that is right over the confidence, with its interval; the diagonal is perfect."""
    known = [step for step in steps if step["share"]["value"] is not None]
    shares = [step["share"] for step in known]
    diagonal = {
        "x": [0, 100],
        "y": [0, 100],
        "name": "says what is so",
        "mode": "lines",
        "line": {"dash": "dot", "width": 1, "color": f"rgb({GREY})"},
        "hoverinfo": "skip",
    }
    dots = {
        "x": [100 * step["confidence"] for step in known],
        "y": [100 * share["value"] for share in shares],
        "name": "audit labels",
        "mode": "markers",
        "marker": {"size": 9, "color": f"rgb({BLUE})"},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (share["high"] - share["value"]) for share in shares],
            "arrayminus": [100 * (share["value"] - share["low"]) for share in shares],
            "color": f"rgb({BLUE})",
        },
        "text": [f"{share['n']}" for share in shares],
        "hovertemplate": "said with %{x:.0f} %: %{y:.0f} % right<br>%{text} labels<extra></extra>",
    }
    return _finished([diagonal, dots], "confidence, %", "right, %")


def _finished(data: list[dict[str, Any]], x: str, y: str) -> Figure:
    layout = {
        "height": 340,
        "margin": {"l": 10, "r": 10, "t": 40, "b": 50},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True},
    }
    return {"data": [{"type": "scatter", **trace} for trace in data], "layout": layout}
