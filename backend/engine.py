"""Where heavy work runs: in this process, or elsewhere (:mod:`backend.ray_engine`)."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray
from PIL.Image import Image

from backend.settings import Settings
from backend.tuned_networks import find_tuned, network_path, tuned_folder
from model.errors import WeightsError

if TYPE_CHECKING:
    from model.embed import Embedder

log = logging.getLogger(__name__)

MOST_TUNED = 3
"""Fine-tuned networks in memory at a time, beside the original."""


class LocalEngine:
    """Embeds in this process. A network is loaded when it is first needed.

    There is the original backbone of the settings, and there are the networks that were fine-tuned
    from it, each by its identity. ``progress`` is called while weights arrive.
    """

    def __init__(self, settings: Settings, progress: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._progress = progress
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._tuned: OrderedDict[str, Embedder] = OrderedDict()

    @property
    def loaded(self) -> bool:
        """Whether the original backbone is in memory."""
        return self._embedder is not None

    @property
    def backbone(self) -> str:
        """Identity of the original backbone, the key of its embeddings. Loads the network.

        Raises:
            WeightsError: the weights cannot be had.
        """
        return self._original().identity

    def can_embed(self, backbone: str) -> bool:
        """Whether embeddings of the backbone of that identity can be made here.

        Raises:
            WeightsError: the original's weights cannot be had.
        """
        folder = tuned_folder(self._settings.data_dir)
        return find_tuned(folder, backbone) is not None or backbone == self.backbone

    def embed(self, images: Sequence[Image], backbone: str | None = None) -> NDArray[Any]:
        """Embeddings (n, width) float16 of n RGB images, by the original backbone by default.

        Raises:
            WeightsError: the weights cannot be had, or are damaged.
        """
        return self._by_identity(backbone).embed(images)

    def close(self) -> None:
        """Nothing is held but memory."""

    def _by_identity(self, backbone: str | None) -> Embedder:
        if backbone is None:
            return self._original()
        with self._lock:
            loaded = self._tuned.get(backbone)
            if loaded is not None:
                self._tuned.move_to_end(backbone)
                return loaded
        record = find_tuned(tuned_folder(self._settings.data_dir), backbone)
        if record is None:
            if backbone == self.backbone:
                return self._original()
            raise WeightsError(
                f"There is no network {backbone}: the settings name {self.backbone}, and no "
                "fine-tuned one is called so.",
                mend="Restore it from a copy, or promote a version of a network that is there.",
            )
        with self._lock:
            from model.embed import Embedder
            from model.tuned import load_tuned

            path = network_path(tuned_folder(self._settings.data_dir), backbone)
            tuned = load_tuned(path, record.name, record.input_size, digest=record.sha256)
            self._tuned[backbone] = Embedder(tuned, runtime=self._settings.runtime)
            while len(self._tuned) > MOST_TUNED:
                self._tuned.popitem(last=False)
            log.info("loaded the fine-tuned network %s", backbone)
            return self._tuned[backbone]

    def _original(self) -> Embedder:
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
                        on_progress=self._tell,
                    ),
                    runtime=self._settings.runtime,
                )
        return self._embedder

    def _tell(self, line: str) -> None:
        log.info(line)
        self._progress()


@dataclass(frozen=True, eq=False)
class Embedded:
    """``vectors`` (n, width) float16 of the images ``digests``; of those among ``problems``, which
    say why there is none, they mean nothing."""

    digests: list[str]
    vectors: NDArray[Any]
    problems: dict[str, str]


class FarEngine(ABC):
    """Embeds on other machines, from the working copies of this one.

    It has one answer to a cluster that is not there: :class:`backend.errors.EngineError`. Nothing
    is done here instead.
    """

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Whether the original backbone was found."""

    @property
    @abstractmethod
    def backbone(self) -> str:
        """Identity of the original backbone. WeightsError when its weights cannot be had."""

    @property
    @abstractmethod
    def chunk(self) -> int:
        """Most images that are worth one go."""

    @abstractmethod
    def can_embed(self, backbone: str) -> bool:
        """Whether embeddings of the backbone of that identity can be made."""

    @abstractmethod
    def embed_copies(self, digests: Sequence[str], backbone: str) -> Iterator[Embedded]:
        """Embeddings of working copies by the network ``backbone``, each once, as they come."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the other machines."""


Engine: TypeAlias = LocalEngine | FarEngine


def make_engine(settings: Settings, progress: Callable[[], None] = lambda: None) -> Engine:
    """The engine that the settings name."""
    if settings.engine == "ray":
        from backend.ray_engine import RayEngine

        return RayEngine(settings, progress)
    return LocalEngine(settings, progress)
