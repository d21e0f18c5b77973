"""Versions as a person reads them on a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from backend.measures_text import audit_shares, measures_text
from backend.prune import PruneReport
from backend.version_metrics import gate_of

if TYPE_CHECKING:
    from backend.compare_versions import Comparison

UNMEASURED = "cannot tell: it was not measured"


def version_table(versions: Sequence[dict[str, Any]]) -> Table:
    """One row for each version, in the order given; of several controls each has its line.

    It fits into 80 columns, so the reason, which is long, stands with a single version only.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("version", "when", "labels", "accuracy", ""):
        table.add_column(heading, overflow="fold")
    for version in versions:
        table.add_row(
            version["version"],
            when(version["created_at"]),
            str(version["labels"]),
            escape("\n".join(accuracies(version))),
            _state(version),
        )
    return table


def version_text(version: dict[str, Any]) -> str:
    """One version in lines of ``name: value``."""
    lines = {
        version["version"]: _state(version),
        "reason": version["reason"],
        "labels": version["labels"],
        "when": when(version["created_at"]),
        "accuracy on audit labels": "; ".join(accuracies(version)),
        "network": version["backbone"],
        "files": version["problem"] or f"intact, {version['bytes']:,} bytes",
    }
    for head in version["heads"]:
        lines[f"control {head['control']}"] = _classes(head)
    for key in ("labels_digest", "seed", "strategy", "libraries"):
        if key in version["manifest"]:
            value = version["manifest"][key]
            plain = value if isinstance(value, str | int) else json.dumps(value)
            lines[key.replace("_", " ")] = plain
    looks = gate_of(version["metrics"]).get("looks")
    if looks is not None:
        lines["looks at the held-out labels so far"] = looks
    text = "\n".join(f"{name}: {value}" for name, value in lines.items())
    return "\n\n".join([text, *measures_text(version["metrics"].get("measures", {}))])


def comparison_text(found: Comparison) -> str:
    """Two versions in one sentence, and the tasks that one of them alone gets right."""
    if found.note:
        return f"{found.note} So the two cannot be compared on the same images."
    first, second = (version["version"] for version in found.versions)
    lines = [
        f"Of {found.images} held-out labels {first} gets {_share(found.accuracies[0])} right, "
        f"{second} {_share(found.accuracies[1])}."
    ]
    for version, tasks in ((second, found.gained), (first, found.lost)):
        if tasks:
            lines.append(f"Right with {version} alone: tasks {', '.join(map(str, tasks))}.")
    return "\n".join(lines)


def prune_text(report: PruneReport) -> str:
    """What a pruning removed and kept."""
    verb = "Would remove" if report.dry_run else "Removed"
    names = ", ".join(report.removed) or "nothing"
    lines = [f"{verb} {names}: {report.bytes:,} bytes."]
    lines += [f"Kept {name}: {why}." for name, why in report.kept.items()]
    return "\n".join(lines)


def accuracies(version: dict[str, Any]) -> list[str]:
    """What the page says of a version's accuracy, that on audit labels alone, by control.

    The labels that its gate went by are more, and the queue chose some of them: no accuracy.
    """
    shares = audit_shares(version["metrics"])
    if len(shares) > 1:
        return [f"{control}: {words}" for control, words in shares]
    return [words for _, words in shares] or [UNMEASURED]


def when(moment: float) -> str:
    """A time of this machine's zone, to the minute."""
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def _classes(head: dict[str, Any]) -> str:
    if "thresholds" not in head:
        return ", ".join(head["classes"])
    pairs = zip(head["classes"], head["thresholds"], strict=True)
    return ", ".join(f"{name} (ticked from {_share(share)} on)" for name, share in pairs)


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _state(version: dict[str, Any]) -> str:
    if version["serves"]:
        return "serves"
    if version["pruned"]:
        return "pruned"
    return "kept" if version["kept"] else "refused"
