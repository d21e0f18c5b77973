"""Where heavy work runs. Today in this process; the seam for running it elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL.Image import Image

from backend.settings import Settings

if TYPE_CHECKING:
    from model.embed import Embedder

log = logging.getLogger(__name__)


class LocalEngine:
    """Embeds in this process. The network is loaded once, when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None

    @property
    def loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._embedder is not None

    @property
    def backbone(self) -> str:
        """Identity of the backbone, the key of its embeddings. Loads the network.

        Raises:
            WeightsError: the weights cannot be had.
        """
        return self._load().identity

    def embed(self, images: Sequence[Image]) -> NDArray[Any]:
        """Embeddings (n, width) float16 of n RGB images."""
        embedder = self._load()
        with self._lock:
            return embedder.embed(images)

    def _load(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                # Importing torch takes seconds; nothing that starts or answers waits for it.
                from model.backbones import load_backbone
                from model.embed import Embedder

                self._embedder = Embedder(
                    load_backbone(
                        self._settings.backbone,
                        input_size=self._settings.input_size,
                        weights_dir=self._settings.weights_dir,
                        cache_dir=self._settings.weights_cache,
                        on_progress=log.info,
                    )
                )
        return self._embedder
