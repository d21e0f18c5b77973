"""How often intervals hold the truth, with the error of that share itself."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from model.audit import AuditEstimate
from model.metrics import wilson_interval


class Coverage:
    """How often intervals held the truth, how wide they were, and how far off the estimates."""

    def __init__(self) -> None:
        self.held: list[float] = []
        self.widths: list[float] = []
        self.errors: list[float] = []

    def add(self, estimate: AuditEstimate, truth: float) -> None:
        """Count an estimate, unless it says that it cannot tell."""
        if estimate.value is None or estimate.low is None or estimate.high is None:
            return
        self.held.append(float(estimate.low <= truth <= estimate.high))
        self.widths.append((estimate.high - estimate.low) / 2)
        self.errors.append(estimate.value - truth)

    def summary(self) -> dict[str, Any]:
        """Shares and means; ``low`` to ``high`` is the 95% interval of the share that held."""
        if not self.held:
            return {"told": 0}
        held = float(np.mean(self.held))
        low, high = wilson_interval(round(sum(self.held)), len(self.held))
        return {
            "told": len(self.held),
            "held": round(held, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "half_width": round(float(np.mean(self.widths)), 4),
            "bias": round(float(np.mean(self.errors)), 4),
        }


class DrawnCoverage:
    """Coverage over many draws for each of several heads; its own error is between heads."""

    def __init__(self) -> None:
        self.by_head: list[Coverage] = []

    def summary(self) -> dict[str, Any]:
        """As :meth:`Coverage.summary`; ``low`` and ``high`` are by the spread between heads."""
        shares = [np.mean(c.held) for c in self.by_head if c.held]
        if len(shares) < 2:
            return {"told": 0}
        held, error = float(np.mean(shares)), float(np.std(shares, ddof=1)) / sqrt(len(shares))
        return {
            "told": sum(len(c.held) for c in self.by_head),
            "held": round(held, 4),
            "low": round(held - 1.96 * error, 4),
            "high": round(held + 1.96 * error, 4),
            "half_width": round(float(np.mean([w for c in self.by_head for w in c.widths])), 4),
            "bias": round(float(np.mean([e for c in self.by_head for e in c.errors])), 4),
        }
