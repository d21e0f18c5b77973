"""What the steps of the trainer work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.calm import Calm
from backend.champion import Champions
from backend.engine import Engine
from backend.finetune_child import FineTuneSlot
from backend.images import ImageFetcher
from backend.labelstudio import LabelStudio
from backend.lease import Leases
from backend.payoff_child import PayoffSlot
from backend.pool_priors import PoolPriors
from backend.push import Pace
from backend.settings import Settings
from backend.store import Store
from backend.watch import Watch
from backend.working_copies import WorkingCopies


@dataclass(frozen=True)
class Tools:
    """What the steps work with."""

    settings: Settings
    store: Store
    client: LabelStudio
    fetcher: ImageFetcher
    copies: WorkingCopies
    engine: Engine
    champions: Champions
    leases: Leases
    pace: Pace
    slot: FineTuneSlot
    priors: PoolPriors = field(default_factory=PoolPriors)
    payoffs: PayoffSlot = field(default_factory=PayoffSlot)
    webhook_warnings: dict[int, str] = field(default_factory=dict)
    """Project → what was logged of its webhooks last."""
    calm: Calm = field(default_factory=Calm)
    watch: Watch = field(default_factory=Watch)
