"""The images of a training: read once, kept small, ready before the network asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.embed import square_pixels
from model.world import ALONE, World

KEPT_BYTES = 1 << 30
READERS = 4
AHEAD = 2
"""Batches that are read while one is learned."""
CPU = torch.device("cpu")

LoadImage = Callable[[int], Image.Image]
Change = Callable[[torch.Tensor, NDArray[np.int64]], torch.Tensor]
"""Gets (b, 3, s, s) uint8 pictures and (b,) places at which they are seen; the changed ones."""


class Pictures:
    """n images as a network sees them: (3, s, s) uint8.

    They are kept in memory while all of them fit into ``kept_bytes``, else decoded at each use.
    """

    def __init__(self, load_image: LoadImage, n: int, side: int, kept_bytes: int = KEPT_BYTES):
        self._load_image = load_image
        self.n, self.side = n, side
        self._kept: torch.Tensor | None = None
        self._keep = n * side * side * 3 <= kept_bytes

    def read_all(self, on_row: Callable[[int], None]) -> None:
        """Read everything into memory, where it fits; ``on_row`` gets how many are read."""
        if not self._keep:
            return
        kept = torch.empty((self.n, self.side, self.side, 3), dtype=torch.uint8)
        with ThreadPoolExecutor(READERS) as threads:
            for row, pixels in enumerate(threads.map(self._read, range(self.n))):
                kept[row] = pixels
                on_row(row + 1)
        self._kept = kept

    def tasks(self, rows: NDArray[np.int64], into: torch.Tensor) -> list[Callable[[], object]]:
        """What has to be done, by any thread, to have the pictures of rows in (b, s, s, 3) uint8
        ``into``."""
        if self._kept is not None:
            chosen = torch.from_numpy(rows)
            return [partial(torch.index_select, self._kept, 0, chosen, out=into)]
        return [
            partial(self._read_into, int(row), square)
            for row, square in zip(rows, into, strict=True)
        ]

    def _read_into(self, row: int, square: torch.Tensor) -> None:
        square.copy_(self._read(row))

    def _read(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.array(square_pixels(self._load_image(row), self.side, row)))


def batches(
    pictures: Pictures,
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    device: torch.device = CPU,
    change: Change | None = None,
    workers: int = 0,
    world: World = ALONE,
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """The rows of each batch and the (b, 3, s, s) uint8 pictures of this process's share of them on
    ``device``, channels last, in the order of ``rows``. A share without any row has the batch's
    first picture.

    ``change``   what the pictures become; on the device
    ``workers``  threads that read pictures, at most :data:`AHEAD` batches of them before they are
                 asked for; 0 reads them here. The pictures are the same
    """
    places = [
        np.arange(start, min(start + batch_size, len(rows)))
        for start in range(0, len(rows), batch_size)
    ]
    own = [place[world.share(len(place))] for place in places]
    own = [share if len(share) else place[:1] for share, place in zip(own, places, strict=True)]
    read = _read_ahead(pictures, [rows[share] for share in own], workers, device.type == "cuda")
    for place, share, squares in zip(places, own, read, strict=True):
        pixels = squares.to(device, non_blocking=True).permute(0, 3, 1, 2)
        yield rows[place], pixels if change is None else change(pixels, share)


def _read_ahead(
    pictures: Pictures, groups: Sequence[NDArray[np.int64]], workers: int, pinned: bool
) -> Iterator[torch.Tensor]:
    """(b, s, s, 3) uint8 of each group of rows; ``pinned`` memory, which a GPU reads by itself."""
    if not workers:
        for rows in groups:
            squares = _empty(len(rows), pictures.side, pinned)
            for task in pictures.tasks(rows, squares):
                task()
            yield squares
        return
    threads = ThreadPoolExecutor(workers, "pictures")
    under_way: deque[tuple[torch.Tensor, list[Future[object]]]] = deque()
    try:
        for rows in groups:
            squares = _empty(len(rows), pictures.side, pinned)
            tasks = [threads.submit(task) for task in pictures.tasks(rows, squares)]
            under_way.append((squares, tasks))
            if len(under_way) > AHEAD:
                yield _finished(under_way)
        while under_way:
            yield _finished(under_way)
    finally:
        threads.shutdown(cancel_futures=True)


@torch.inference_mode(False)  # where they would be for this thread alone
def _empty(count: int, side: int, pinned: bool) -> torch.Tensor:
    return torch.empty((count, side, side, 3), dtype=torch.uint8, pin_memory=pinned)


def _finished(under_way: deque[tuple[torch.Tensor, list[Future[object]]]]) -> torch.Tensor:
    squares, tasks = under_way.popleft()
    for task in tasks:
        task.result()
    return squares
