"""The images of a training: read once, kept small, changed at random each time they are seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from model.augment import augmented
from model.embed import square_pixels
from model.world import ALONE, World

KEPT_BYTES = 1 << 30
READERS = 4

LoadImage = Callable[[int], Image.Image]


class Pictures:
    """n images as a network sees them: (3, s, s) uint8.

    They are kept in memory while all of them fit into ``kept_bytes``, else decoded at each use.
    """

    def __init__(self, load_image: LoadImage, n: int, side: int, kept_bytes: int = KEPT_BYTES):
        self._load_image = load_image
        self.n, self.side = n, side
        self._kept: NDArray[np.uint8] | None = None
        self._keep = n * side * side * 3 <= kept_bytes

    def read_all(self, on_row: Callable[[int], None]) -> None:
        """Read everything into memory, where it fits; ``on_row`` gets how many are read."""
        if not self._keep:
            return
        kept = np.empty((self.n, self.side, self.side, 3), dtype=np.uint8)
        with ThreadPoolExecutor(READERS) as threads:
            for row, pixels in enumerate(threads.map(self._read, range(self.n))):
                kept[row] = pixels
                on_row(row + 1)
        self._kept = kept

    def tensor(self, row: int) -> torch.Tensor:
        """(3, s, s) uint8, channels last in memory."""
        pixels = self._read(row) if self._kept is None else self._kept[row].copy()
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _read(self, row: int) -> NDArray[np.uint8]:
        return np.array(square_pixels(self._load_image(row), self.side, row))


class _Seen(Dataset[torch.Tensor]):
    """Rows in the order in which they are seen, each with its own seed."""

    def __init__(
        self,
        pictures: Pictures,
        rows: NDArray[np.int64],
        transform: v2.Transform | None,
        seed: tuple[int, ...],
    ) -> None:
        self._pictures, self._rows = pictures, rows
        self._transform, self._seed = transform, seed

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> torch.Tensor:
        picture = self._pictures.tensor(int(self._rows[place]))
        if self._transform is None:
            return picture
        # By place, not by row: a balanced sampler may show one row twice in an epoch.
        return augmented(picture, self._transform, (*self._seed, place))


def batches(
    pictures: Pictures,
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    transform: v2.Transform | None = None,
    seed: tuple[int, ...] = (0,),
    workers: int = 0,
    world: World = ALONE,
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """The rows of each batch and the (b, 3, s, s) uint8 pictures of this process's share of them,
    in the order of ``rows``. A share without any row has the batch's first picture.

    What a picture becomes depends on ``seed`` and its place alone, not on ``workers`` (processes
    that prepare batches ahead; 0 prepares them here) nor on ``world``.
    """
    places = [
        range(start, min(start + batch_size, len(rows)))
        for start in range(0, len(rows), batch_size)
    ]
    loader = DataLoader(
        _Seen(pictures, rows, transform, seed),
        batch_sampler=[list(batch[world.share(len(batch))] or batch[:1]) for batch in places],
        num_workers=workers,
        collate_fn=_stack,
        prefetch_factor=4 if workers else None,
    )
    for batch, pixels in zip(places, loader, strict=True):
        yield rows[batch.start : batch.stop], pixels


def _stack(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(pictures)).contiguous(memory_format=torch.channels_last)
