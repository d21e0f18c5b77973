"""The plots of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from backend.experiment_page import Figure, Plot, plain_figure
from backend.simulation_summary import REFERENCE

Part = Mapping[str, Any]

# Told apart by shape too, and as well on a light as on a dark page.
COLOURS = (
    (224, 123, 57),
    (59, 130, 196),
    (42, 157, 143),
    (155, 107, 179),
    (201, 79, 106),
    (148, 158, 52),
    (180, 130, 90),
    (90, 160, 90),
    (120, 120, 210),
)
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
GREY = (138, 148, 163)
HEIGHT = 460


def simulation_plots(summary: Mapping[str, Any]) -> list[Plot]:
    """The learning curves, and where there is something to compare with, gain and labels."""
    parts: Sequence[Part] = summary["strategies"]
    looks = _looks(parts)
    plots = [
        Plot(
            "curves",
            "Learning curves",
            "Accuracy on the test images: the mean over the seeds, in a band from the worst seed "
            "to the best.",
            _curves(parts, looks, summary["target"]),
        )
    ]
    others = [part for part in parts if part["strategy"] != REFERENCE]
    if len(others) < len(parts) and others:
        plots.append(
            Plot(
                "gain",
                "Gain over random",
                "Difference in accuracy with the same number of labels and the same seed.",
                _gain(others, looks),
            )
        )
    if any(part["labels_to_target"] is not None for part in parts):
        plots.append(
            Plot(
                "labels",
                f"Labels to {100 * summary['target']:.1f} %",
                "Read off the mean curves; the line goes from the best seed to the worst that gets "
                "there.",
                _labels(parts, looks),
            )
        )
    return plots


def _looks(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Colour and symbol of each strategy; random is grey."""
    names = [part["strategy"] for part in parts]
    found: dict[str, dict[str, Any]] = {REFERENCE: {"rgb": GREY, "symbol": "circle-open"}}
    for place, name in enumerate(name for name in names if name != REFERENCE):
        rgb, symbol = COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)]
        found[name] = {"rgb": rgb, "symbol": symbol}
    return found


def _curves(
    parts: Sequence[Part], looks: Mapping[str, Mapping[str, Any]], target: float | None
) -> Figure:
    figure = go.Figure()
    for part in parts:
        _add_band(figure, part, looks, "accuracy", "low", "high")
    if target is not None:
        figure.add_hline(
            y=100 * target,
            line={"dash": "dot", "width": 1, "color": _rgba(GREY)},
            annotation={"text": f"target {100 * target:.1f} %", "xanchor": "left"},
            annotation_position="top left",
        )
    figure.update_yaxes(title="accuracy, %")
    return _over_labels(figure, parts)


def _gain(parts: Sequence[Part], looks: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = go.Figure()
    for part in parts:
        _add_band(figure, part, looks, "gain", "gain_low", "gain_high")
    figure.add_hline(y=0, line={"width": 1, "color": _rgba(GREY)})
    figure.update_yaxes(title="points of accuracy")
    return _over_labels(figure, parts)


def _labels(parts: Sequence[Part], looks: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = go.Figure()
    shown = [part for part in parts if part["labels_to_target"] is not None]
    for part in shown:
        look, at = looks[part["strategy"]], part["labels_to_target"]
        low, high = (
            at if part[end] is None else part[end] for end in ("labels_low", "labels_high")
        )
        figure.add_scatter(
            x=[at],
            y=[part["strategy"]],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, high - at)],
                "arrayminus": [max(0.0, at - low)],
                "color": _rgba(look["rgb"]),
                "thickness": 1.5,
                "width": 4,
            },
            mode="markers",
            marker={"color": _rgba(look["rgb"]), "symbol": look["symbol"], "size": 10},
            hovertemplate="%{y}: %{x:,.0f} labels<extra></extra>",
        )
    figure.update_xaxes(title="labels", rangemode="tozero")
    order = [part["strategy"] for part in reversed(shown)]
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    figure.update_layout(height=110 + 34 * max(3, len(shown)))
    return plain_figure(figure, legend=False)


def _add_band(
    figure: go.Figure,
    part: Part,
    looks: Mapping[str, Mapping[str, Any]],
    value: str,
    low: str,
    high: str,
) -> None:
    """A mean line, and what lies between the worst and the best seed."""
    look, name = looks[part["strategy"]], part["strategy"]
    points = [point for point in part["curve"] if point[value] is not None]
    x = [point["labels"] for point in points]
    ends = [100 * point[high] for point in points] + [100 * point[low] for point in points[::-1]]
    figure.add_scatter(
        x=x + x[::-1],
        y=ends,
        fill="toself",
        fillcolor=_rgba(look["rgb"], 0.18),
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=name,
        showlegend=False,
        mode="lines",
    )
    figure.add_scatter(
        x=x,
        y=[100 * point[value] for point in points],
        name=name,
        legendgroup=name,
        mode="lines+markers",
        line={"color": _rgba(look["rgb"]), "width": 2},
        marker={"color": _rgba(look["rgb"]), "symbol": look["symbol"], "size": 9},
        hovertemplate="%{x:,} labels: %{y:.1f}<extra>%{fullData.name}</extra>",
    )


def _over_labels(figure: go.Figure, parts: Sequence[Part]) -> Figure:
    budgets = [point["labels"] for point in parts[0]["curve"]]
    figure.update_xaxes(
        title="labels",
        type="log",
        tickvals=budgets,
        ticktext=[f"{budget:,}" for budget in budgets],
    )
    figure.update_layout(height=HEIGHT)
    return plain_figure(figure, legend=True)


def _rgba(rgb: tuple[int, int, int], alpha: float = 1) -> str:
    return f"rgba({rgb[0]}, {rgb[1]}, {rgb[2]}, {alpha:g})"
