"""Networks to look into, in the form that they were trained in.

What embeds may run a network in another form, without its layers and gradients; what explains needs
both. So it has a copy of its own, loaded when it is first needed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backend.settings import Settings
from backend.tuned_networks import find_tuned, network_path, tuned_folder
from model.errors import WeightsError

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
                self._last = self._load(identity)
            return self._last

    def _load(self, identity: str) -> Backbone:
        # Importing torch takes seconds; the server starts without it.
        from model.backbones import load_backbone
        from model.tuned import load_tuned

        settings = self._settings
        folder = tuned_folder(settings.data_dir)
        record = find_tuned(folder, identity)
        if record is not None:
            path = network_path(folder, identity)
            return load_tuned(path, record.name, record.input_size, digest=record.sha256)
        original = load_backbone(
            settings.backbone,
            input_size=settings.input_size,
            weights_dir=settings.weights_dir,
            cache_dir=settings.weights_cache,
        )
        if original.identity != identity:
            raise WeightsError(
                f"There is no network {identity}: the settings name {original.identity}, and no "
                "fine-tuned one is called so.",
                mend="Restore it from a copy, or promote a version of a network that is there.",
            )
        return original
