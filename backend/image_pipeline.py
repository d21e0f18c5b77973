"""Images on their way to their embeddings: fetched, decoded and embedded at the same time.

While a group is embedded the next one is fetched and decoded. What is in memory is bounded however
many images there are: :data:`AHEAD` for each worker, one group that is gathered and two that are
embedded: the second of them takes each core that the first no longer needs.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from numpy.typing import NDArray
from PIL.Image import Image

from backend.errors import ImageError
from backend.images import ImageFetcher
from backend.log_context import carried
from backend.metrics import count_embedded
from backend.working_copies import WorkingCopies
from model.errors import TiebreakError

log = logging.getLogger(__name__)

AHEAD = 2
"""Images under way, or ready and not yet taken, for each worker."""
GROUP = 32
"""Images embedded together."""

Given = TypeVar("Given")
Result = TypeVar("Result")
Embed = Callable[[Sequence[Image]], NDArray[Any]]
Known = Callable[[Collection[str]], Collection[str]]


@dataclass(frozen=True)
class Wanted:
    """An image to be had; ``digest`` where its bytes were seen before."""

    source: str
    uri: str
    task_id: int
    digest: str | None


@dataclass(frozen=True)
class Fetched:
    """What became of an image: its bytes' digest and the picture, or why it cannot be had."""

    source: str
    digest: str | None
    image: Image | None
    error: ImageError | None


@dataclass(frozen=True)
class EmbeddedGroup:
    """Images that were fetched together, and the embeddings by digest of those that can be had."""

    fetched: Sequence[Fetched]
    vectors: dict[str, NDArray[Any]]


def embedded_groups(
    wanted: Sequence[Wanted],
    fetch: Callable[[Wanted], Fetched | None],
    embed: Embed,
    workers: int,
    progress: Callable[[], None],
    known: Known = lambda _: (),
) -> Iterator[EmbeddedGroup]:
    """``wanted`` in groups, as they come; without those that ``fetch`` gives None for.

    ``known``: which of some digests need no embedding, since images of the same bytes have one.
    ``embed`` is called by two threads. An error of it, or of ``fetch``, is raised when what came
    before has been taken, the last group as far as it was gathered.
    """
    with ThreadPoolExecutor(2, "embedding") as threads:
        behind: Future[EmbeddedGroup] | None = None
        try:
            for group in _grouped(as_they_come(fetch, wanted, workers), progress):
                ahead = threads.submit(carried(lambda each: _embedded(each, embed, known)), group)
                before, behind = behind, ahead
                if before is not None:
                    yield before.result()
        except Exception:
            if behind is not None:
                yield behind.result()
            raise
        if behind is not None:
            yield behind.result()


def as_they_come(
    work: Callable[[Given], Result], given: Iterable[Given], workers: int
) -> Iterator[Result]:
    """What ``work`` makes of each, the first finished first: a slow one holds up nobody.

    At most ``AHEAD * workers`` are under way or finished at a time.
    """
    rest, ready = iter(given), queue.SimpleQueue[Future[Result]]()
    with ThreadPoolExecutor(workers) as threads:
        carry = carried(work)

        def start(most: int) -> int:
            begun = list(islice(rest, most))
            for each in begun:
                threads.submit(carry, each).add_done_callback(ready.put)
            return len(begun)

        under_way = start(AHEAD * workers)
        while under_way:
            yield ready.get().result()
            under_way += start(1) - 1


def fetch_image(fetcher: ImageFetcher, copies: WorkingCopies, wanted: Wanted) -> Fetched:
    """The image, or why it cannot be had."""
    try:
        digest, image = open_image(fetcher, copies, wanted)
    except ImageError as error:
        log.warning("task %d: no image: %s", wanted.task_id, error)
        return Fetched(wanted.source, None, None, error)
    return Fetched(wanted.source, digest, image, None)


def open_image(fetcher: ImageFetcher, copies: WorkingCopies, wanted: Wanted) -> tuple[str, Image]:
    """Digest and picture, from the working copy, or else from the address. ImageError where it
    cannot be had."""
    if wanted.digest is not None and copies.has(wanted.digest):
        return wanted.digest, copies.open(wanted.digest)
    return fetcher.fetch_image(wanted.uri, wanted.task_id)


def _grouped(
    results: Iterator[Fetched | None], progress: Callable[[], None]
) -> Iterator[list[Fetched]]:
    group: list[Fetched] = []
    try:
        for result in results:
            progress()
            if result is not None:
                group.append(result)
            if len(group) == GROUP:
                yield group
                group = []
    except TiebreakError:
        if group:
            yield group
        raise
    if group:
        yield group


def _embedded(group: Sequence[Fetched], embed: Embed, known: Known) -> EmbeddedGroup:
    images = {each.digest: each.image for each in group if each.digest and each.image is not None}
    for digest in known(images):
        del images[digest]
    # The pictures are let go of: what waits to be written down is small.
    fetched = [Fetched(each.source, each.digest, None, each.error) for each in group]
    if not images:
        return EmbeddedGroup(fetched, {})
    began = time.perf_counter()
    vectors = embed(list(images.values()))
    count_embedded(len(images), time.perf_counter() - began)
    return EmbeddedGroup(fetched, dict(zip(images, vectors, strict=True)))
