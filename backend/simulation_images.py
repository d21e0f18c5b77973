"""The images of a data set, each embedded once, whatever is asked of them later."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.embedding_files import EmbeddingFiles
from backend.errors import DataError, ImageError
from backend.labelled_data import FileImages, ImageSet, ImageSource, LabelledData, image_name
from backend.settings import Settings
from model.backbones import Backbone, default_input_size
from model.embed import Embedder
from model.embed_images import READERS, Tell

LOOKED_AT = 200


class EmbeddedImages:
    """Embeddings of a data set's images by one network.

    They are kept in the data folder by the digest of the data and the network's identity, so that
    they are there the next time, and after a kill as many as were finished.
    """

    def __init__(self, data: LabelledData, backbone: Backbone, settings: Settings) -> None:
        self._data = data
        self._backbone = backbone
        self._root = settings.data_dir / "embeddings"
        self._runtime = settings.runtime
        self._embedder: Embedder | None = None
        self._train = self._files(data.train, "train")
        # A test part that was held out is of the same images.
        apart = data.test.source is not data.train.source
        self._test = self._files(data.test, "test") if apart else self._train

    def embed(self, images: ImageSet, what: str, tell: Tell) -> ImageSet:
        """Embed what is not embedded yet; those of ``images`` that can be read."""
        files = self._files_of(images)
        missing = files.missing(np.unique(images.rows))
        if len(missing):
            self._embedder = self._embedder or Embedder(self._backbone, runtime=self._runtime)
            with ThreadPoolExecutor(READERS) as readers:
                self._embed(images.source, missing, files, self._embedder, readers, what, tell)
        return images.at(np.flatnonzero(self.readable(images)))

    def readable(self, images: ImageSet) -> NDArray[np.bool_]:
        """(n,) which of the images are not known to be unreadable."""
        return self._files_of(images).readable(images.rows)

    def vectors(self, images: ImageSet) -> NDArray[np.float16]:
        """(n, width) embeddings of images that :meth:`embed` gave."""
        return self._files_of(images).vectors(images.rows)

    def left_out(self, images: ImageSet) -> list[tuple[str, str]]:
        """(which, why) of those that cannot be read."""
        reasons = self._files_of(images).unreadable
        rows = [int(row) for row in images.rows if int(row) in reasons]
        return [(image_name(images, row), reasons[row]) for row in rows]

    @staticmethod
    def _embed(
        source: ImageSource,
        missing: NDArray[np.int64],
        files: EmbeddingFiles,
        embedder: Embedder,
        readers: ThreadPoolExecutor,
        what: str,
        tell: Tell,
    ) -> None:
        done = 0
        while done < len(missing):
            rows = missing[done : done + embedder.batch_size]
            loaded = list(readers.map(lambda row: _load(source, int(row)), rows))
            good = [image for image in loaded if isinstance(image, Image.Image)]
            for row, found in zip(rows, loaded, strict=True):
                if isinstance(found, ImageError):
                    files.give_up(int(row), found.message)
            read = np.array([isinstance(found, Image.Image) for found in loaded])
            files.add(rows[read], embedder.embed(good))
            done += len(rows)
            tell(what, done, len(missing))

    def _files_of(self, images: ImageSet) -> EmbeddingFiles:
        return self._train if images.source is self._data.train.source else self._test

    def _files(self, part: ImageSet, name: str) -> EmbeddingFiles:
        # Files are decoded to about this side first, which the numbers depend on a little.
        side = f"-{part.source.side}px" if isinstance(part.source, FileImages) else ""
        folder = self._root / f"{self._data.digest}-{self._backbone.identity}{side}-{name}"
        count = 1 + int(part.rows.max())
        if self._data.test.source is self._data.train.source:
            count = 1 + int(max(self._data.train.rows.max(), self._data.test.rows.max()))
        return EmbeddingFiles(folder, count=count, width=self._backbone.width)


def usual_input_size(data: LabelledData) -> int:
    """The input size that suits the images, by the median of the shorter sides of some of them.

    :class:`DataError` when none of those can be read.
    """
    every = max(1, len(data.train) // LOOKED_AT)
    sides = []
    for row in data.train.rows[::every]:
        try:
            sides.append(min(data.train.source.size(int(row))))
        except ImageError:
            continue
    if not sides:
        raise DataError(f"{data.name}: none of the training images can be read.")
    return default_input_size(int(np.median(sides)))


def _load(source: ImageSource, row: int) -> Image.Image | ImageError:
    try:
        return source.load(row)
    except ImageError as error:
        return error
