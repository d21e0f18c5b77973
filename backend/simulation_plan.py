"""What a simulation replays, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from backend.errors import SetupError
from model.finetune import LEAST_ROWS
from model.finetune_options import FineTuneOptions
from model.queries import STRATEGIES

# Where nobody names any.
BUDGETS = (20, 50, 100, 200, 400, 700, 1000, 2000)


@dataclass(frozen=True)
class Plan:
    """Strategies × seeds, all at the same budgets.

    ``seeds``        of the projects; the first one also draws the test images
    ``tuning``       how a fine-tune goes, but for its seed
    ``batch``        labels between two retrainings; None: growing, as
                     :func:`model.simulate.next_batch` does
    ``start``        labels drawn by chance before a strategy is asked
    ``pool``         most images of a project; ``test``: most test images
    ``imbalance``    how many times the images of the rarest class the commonest has; 1: as it is
    ``label_noise``  share of labels that are wrong
    ``finetune_at``  numbers of labels at which the network is fine-tuned
    ``cut``          budgets that a project cannot have are left out instead of refused

    :class:`SetupError` names the option that does not fit.
    """

    strategies: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    tuning: FineTuneOptions
    batch: int | None = None
    start: int = 0
    pool: int | None = None
    test: int | None = None
    imbalance: float = 1.0
    label_noise: float = 0.0
    finetune_at: tuple[int, ...] = ()
    cut: bool = False

    def __post_init__(self) -> None:
        odd = [name for name in self.strategies if name not in STRATEGIES]
        if odd or not self.strategies:
            raise SetupError(
                f"--strategies names {', '.join(odd) or 'nothing'}.",
                mend=f"Known are {', '.join(STRATEGIES)}.",
            )
        _check_ascending("--budgets", self.budgets, 1)
        if self.start > self.budgets[0]:
            raise SetupError(
                f"--start is {self.start}; the first budget is {self.budgets[0]}.",
                mend="Start with no more labels than the first budget has.",
            )
        if self.finetune_at:
            _check_ascending("--finetune-at", self.finetune_at, LEAST_ROWS)
            if self.finetune_at[-1] > self.budgets[-1]:
                raise SetupError(
                    f"--finetune-at ends with {self.finetune_at[-1]}; the last budget is "
                    f"{self.budgets[-1]}."
                )

    def fitted(self, size: int) -> Plan:
        """The plan for projects of ``size`` images or more.

        :class:`SetupError` when those are fewer than the budgets need.
        """
        if self.cut and self.budgets[-1] > size:
            fewer = tuple(budget for budget in self.budgets if budget <= size) or (size,)
            return replace(self, budgets=fewer)
        if self.budgets[-1] > size:
            raise SetupError(
                f"--budgets ends with {self.budgets[-1]:,}; the pool has {size:,} images.",
                mend="Ask for fewer labels, or for more images with --pool.",
            )
        return self


def _check_ascending(option: str, numbers: Sequence[int], least: int) -> None:
    if not numbers or numbers[0] < least or any(b <= a for a, b in pairwise(numbers)):
        shown = ",".join(map(str, numbers)) or "empty"
        raise SetupError(f"{option} is {shown}; ascending numbers from {least} on are needed.")


def numbers(option: str, listed: str) -> tuple[int, ...]:
    """``20, 50`` as two whole numbers. :class:`SetupError` names the option."""
    try:
        return tuple(int(number) for number in listed.split(","))
    except ValueError:
        raise SetupError(
            f"{option} is {listed!r}; whole numbers are needed, as in 20,50,100."
        ) from None
