"""The next images of a project, fetched here and embedded on other machines.

Working copies are made as for the engine of this process, by the same rules. What was fetched is
written down in small groups, and what comes back is committed as it comes, so that a killed
trainer, or a cluster that is gone, loses what was on its way and nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from backend.embedding_rows import embedded_digests, keep_embeddings
from backend.engine import Embedded, FarEngine
from backend.errors import ImageError
from backend.image_pipeline import GROUP, Fetched, Wanted, as_they_come
from backend.images import ImageFetcher
from backend.metrics import count_embedded
from backend.pool import CHUNK_SECONDS, missing_images, remember, remember_failure
from backend.store import Store
from backend.working_copies import WorkingCopies

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FarPool:
    """The images of a trainer whose ``engine`` is elsewhere. ``progress``: see ``embed_chunk``."""

    store: Store
    fetcher: ImageFetcher
    copies: WorkingCopies
    engine: FarEngine
    workers: int
    progress: Callable[[], None]

    def embed_chunk(self, project_id: int, backbone: str, *, labelled_only: bool) -> int:
        """Fetch and embed the next images that lack an embedding; how many were worked on.

        Raises:
            EngineError: the other machines are not there. What was fetched or came back is kept.
        """
        wanted = missing_images(
            self.store, project_id, backbone, self.engine.chunk, labelled_only=labelled_only
        )
        kept = self._keep(wanted)
        sources = {found.digest: found.source for found in kept if found.digest}
        for digest in embedded_digests(self.store, sources, backbone):
            del sources[digest]
        if sources:
            began = time.perf_counter()
            for part in self.engine.embed_copies(list(sources), backbone):
                count_embedded(len(part.digests), time.perf_counter() - began)
                self._commit(part, backbone, sources)
                self.progress()
                began = time.perf_counter()
        return len(kept)

    def _keep(self, wanted: list[Wanted]) -> list[Fetched]:
        """Make the working copies that are not there; those not begun in time wait."""
        until = time.monotonic() + CHUNK_SECONDS

        def keep(image: Wanted) -> Fetched | None:
            if image.digest is not None and self.copies.has(image.digest):
                return Fetched(image.source, image.digest, None, None)
            if time.monotonic() > until:
                return None
            try:
                digest = self.fetcher.fetch(image.uri, image.task_id)
                return Fetched(image.source, digest, None, None)
            except ImageError as error:
                log.warning("task %d: no image: %s", image.task_id, error)
                return Fetched(image.source, None, None, error)

        kept: list[Fetched] = []
        written = 0
        try:
            for found in as_they_come(keep, wanted, self.workers):
                self.progress()
                if found is not None:
                    kept.append(found)
                if len(kept) - written >= GROUP:
                    remember(self.store, kept[written:])
                    written = len(kept)
        finally:
            remember(self.store, kept[written:])
        return kept

    def _commit(self, part: Embedded, backbone: str, sources: dict[str, str]) -> None:
        vectors = dict(zip(part.digests, part.vectors, strict=True))
        good = {digest: vector for digest, vector in vectors.items() if digest not in part.problems}
        keep_embeddings(self.store, good, backbone)
        for digest, problem in part.problems.items():
            remember_failure(self.store, sources[digest], self._why(digest, problem))

    def _why(self, digest: str, problem: str) -> ImageError:
        """A damaged copy is removed here, where it can be fetched again."""
        try:
            self.copies.open(digest)
        except ImageError as error:
            return error
        return ImageError(problem, retry=True)
