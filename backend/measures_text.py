"""The measures of a version as a person reads them on a terminal: numbers, intervals and n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.version_metrics import SAMPLES, share_name

NAMES = {
    "accuracy": "accuracy",
    "exact_match": "all classes right",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "micro_f1": "micro F1",
    "roc_auc": "ROC AUC",
    "top_3": "among the first 3",
    "log_loss": "log loss",
    "ece": "calibration error",
}
NOT_SHARES = {"log_loss", "roc_auc", "macro_f1", "weighted_f1", "micro_f1"}
MIXED_UP = 5


def measures_text(measures: Mapping[str, Any]) -> list[str]:
    """A paragraph for each control: headline numbers, then one line for each class."""
    return [_control_text(control, samples) for control, samples in measures.items()]


def number_text(name: str, number: Mapping[str, Any]) -> str:
    """``83.1% (77.5% to 87.6%)``, or why it cannot be told."""
    if number["value"] is None:
        return str(number["reason"])
    value, low, high = (_plain(name, number[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def words_of(name: str, part: Mapping[str, Any]) -> str:
    """One measure of a sample in words; a dash where it was not taken."""
    return number_text(name, part[name]) if name in part else "–"


def audit_shares(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of each control the share of audit labels that a version got right at its training, in words:
    ``83.1% (77.5% to 87.6%) of 144``, or why it cannot be told. Empty where nothing was measured.
    """
    measures = metrics.get("measures") or {}
    return [
        (name, _audit_share(samples.get("held_out") or {})) for name, samples in measures.items()
    ]


def any_told(part: Mapping[str, Any]) -> bool:
    """Whether any of the measures of one sample can be told yet."""
    return any(name in part and part[name]["value"] is not None for name in NAMES)


def _audit_share(part: Mapping[str, Any]) -> str:
    name = share_name(bool(part.get("multiple")))
    told = name in part and part[name]["value"] is not None
    return words_of(name, part) + (f" of {part[name]['n']:,}" if told else "")


def _control_text(control: str, samples: Mapping[str, Any]) -> str:
    found = {sample: samples[sample] for sample in SAMPLES if sample in samples}
    lines = [f"{control}, in brackets the 95% interval"]
    heads = [f"{SAMPLES[sample]}, n = {part['n']}" for sample, part in found.items()]
    rows = [["", *heads]]
    for name, title in NAMES.items():
        if any(name in part for part in found.values()):
            rows.append([title, *(number_text(name, part[name]) for part in found.values())])
    lines += _table(rows)
    sample, part = _best_known(found)
    if part["n"]:
        lines += ["", f"{control}, class by class, {SAMPLES[sample]}"]
        headings = ["class", "labels", "precision", "recall"]
        lines += _table([headings, *map(_class_row, _seen(part))])
        lines += _mixed_up(part)
    return "\n".join(lines)


def _best_known(found: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The held-out labels where accuracy can be told of them, else the cross-validated ones."""
    for sample, part in found.items():
        share = part["exact_match" if part["multiple"] else "accuracy"]
        if share["value"] is not None:
            return sample, part
    return list(found.items())[-1]


def _seen(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [entry for entry in part["per_class"] if entry["support"] or entry["precision"]["n"]]


def _class_row(entry: Mapping[str, Any]) -> list[str]:
    shares = [number_text(name, entry[name]) for name in ("precision", "recall")]
    return [entry["class"], str(entry["support"]), *shares]


def _mixed_up(part: Mapping[str, Any]) -> list[str]:
    """The pairs of classes that are taken for each other most often."""
    if part["multiple"] or part["confusion"] is None:
        return []
    names, cells = part["classes"], part["confusion"]
    found = sorted(
        (-count, truth, said)
        for truth, row in enumerate(cells)
        for said, count in enumerate(row)
        if truth != said and count
    )
    pairs = [f"{names[t]} taken for {names[s]} ({-n})" for n, t, s in found[:MIXED_UP]]
    return [f"Most mixed up: {', '.join(pairs)}."] if pairs else []


def _plain(name: str, value: float) -> str:
    return f"{value:.3f}" if name in NOT_SHARES else f"{value:.1%}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
