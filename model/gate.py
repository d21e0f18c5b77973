"""Whether a retrained model may replace the one that serves.

One seam: what each model gets right on the same held-out images goes in, a decision that a person
can read comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.checks import share
from model.errors import ArgumentError


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and why in one sentence.

    ``n`` held-out images with a label; accuracies on them, None where there is nothing to count;
    ``gained`` images went from wrong to right and ``lost`` from right to wrong.
    """

    promote: bool
    reason: str
    n: int
    champion_accuracy: float | None
    challenger_accuracy: float | None
    gained: int
    lost: int


def decide(
    champion_correct: ArrayLike | None,
    challenger_correct: ArrayLike,
    *,
    margin: float,
    minimum: int = 10,
    champion_losses: ArrayLike | None = None,
    challenger_losses: ArrayLike | None = None,
) -> GateDecision:
    """Keep the challenger unless it is worse than the champion by more than ``margin``.

    ``champion_correct`` and ``challenger_correct`` are (n,) bool on the same n held-out images in
    the same order; None for the champion when there is none. The challenger is refused when it
    gets fewer than (champion's right answers - margin * n) right. Without a champion, or with
    fewer than ``minimum`` images, it is kept, and the reason says so.

    ``champion_losses`` and ``challenger_losses`` are (n,) float, the log loss of each image. On a
    few dozen images one right answer more or less is mostly luck, and a model that learned from
    more labels can be turned away for it. So where the losses are given, a challenger
    is refused only when its mean loss is not lower either: it must be worse by both measures.

    ArgumentError when the arrays do not fit together, ``margin`` is outside [0, 1] or ``minimum``
    is below 1.
    """
    challenger = _flags("challenger_correct", challenger_correct)
    share("margin", margin)
    if minimum < 1:
        raise ArgumentError(f"minimum is {minimum!r}; at least 1 is needed.")
    n = challenger.size
    if champion_correct is None:
        return GateDecision(
            True, "Kept: there is no version to compare it with.", n, None, _mean(challenger), 0, 0
        )
    champion = _flags("champion_correct", champion_correct)
    if champion.shape != challenger.shape:
        raise ArgumentError(
            f"champion_correct has {champion.size} values and challenger_correct {n}; "
            "both must be about the same images."
        )
    gained = int((challenger & ~champion).sum())
    lost = int((champion & ~challenger).sum())
    if n < minimum:
        promote = True
        reason = f"Kept: too few held-out labels ({n} of {minimum}) to compare."
    else:
        promote = _not_worse(lost - gained, n, margin)
        reason = _sentence(promote, champion, challenger, gained, lost, margin)
        if not promote and champion_losses is not None and challenger_losses is not None:
            before = _mean_loss("champion_losses", champion_losses, n)
            after = _mean_loss("challenger_losses", challenger_losses, n)
            promote = after < before
            reason = _sentence(promote, champion, challenger, gained, lost, margin, before, after)
    return GateDecision(promote, reason, n, _mean(champion), _mean(challenger), gained, lost)


def _not_worse(net_loss: int, n: int, margin: float) -> bool:
    # A hair of tolerance: 0.02 * 50 must allow exactly 1, however the product rounds.
    return net_loss <= margin * n + 1e-9


def _sentence(
    promote: bool,
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
    gained: int,
    lost: int,
    margin: float,
    loss_before: float | None = None,
    loss_after: float | None = None,
) -> str:
    n = champion.size
    after = f"{int(challenger.sum())} of {n} held-out images right ({challenger.mean():.1%})"
    before = f"{int(champion.sum())} ({champion.mean():.1%}) before"
    verdict = "Kept" if promote else "Refused"
    counted = f"{verdict}: {after} against {before}, {gained} gained and {lost} lost"
    if loss_before is None or loss_after is None:
        within = "within" if promote else "beyond"
        return f"{counted}, {within} the margin of {margin:.1%}."
    losses = f"log loss {loss_after:.3f} against {loss_before:.3f}"
    if promote:
        return (
            f"{counted}, beyond the margin of {margin:.1%}, but more sure of the truth: {losses}."
        )
    return f"{counted}, beyond the margin of {margin:.1%}, and less sure of the truth: {losses}."


def _mean_loss(name: str, values: ArrayLike, n: int) -> float:
    losses = np.asarray(values, dtype=np.float64)
    if losses.shape != (n,) or not np.isfinite(losses).all():
        raise ArgumentError(f"{name} has shape {losses.shape}; ({n},) finite numbers are needed.")
    return float(losses.mean())


def _mean(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None


def _flags(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    flags = np.asarray(values)
    if flags.size == 0 and flags.ndim == 1:
        return np.zeros(0, dtype=np.bool_)
    if flags.ndim != 1 or flags.dtype != np.bool_:
        raise ArgumentError(
            f"{name} has shape {flags.shape} and dtype {flags.dtype}; (n,) bool is needed."
        )
    return flags
