"""Networks to look into, in the form that they were trained in.

What embeds may run a network in another form, without its layers and gradients; what explains needs
both. So it has a copy of its own, loaded when it is first needed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backend.network_source import network_source
from backend.settings import Settings

if TYPE_CHECKING:
    from model.backbones import Backbone


class InnerNetworks:
    """Networks by identity; the one that was asked for last stays in memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._last: Backbone | None = None

    def get(self, identity: str) -> Backbone:
        """The network of that identity, the original one or a fine-tuned one.

        Raises:
            WeightsError: it is not here, its weights cannot be had or are damaged.
        """
        with self._lock:
            if self._last is None or self._last.identity != identity:
                self._last = network_source(self._settings, identity).load()
            return self._last
