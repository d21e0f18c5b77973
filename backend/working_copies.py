"""One working copy of each image, in a folder and, where machines share one, in a bucket.

A working copy is the picture after decoding (see :mod:`backend.decode`), named by the SHA-256 of
the original bytes: equal images of many tasks share one. Pictures whose shorter side is at most
64 pixels are kept as PNG, because JPEG would change every pixel of a small digit or icon; larger
ones as JPEG, quality 90, without chroma subsampling.

A copy is our own file and is decoded here, not in :mod:`backend.decoders`.

Where machines share a bucket, a copy goes there too, and those of others are fetched from it; the
folder then holds the copies that were used last, as many as may be. What was here before there was
a bucket stays until it is there, too (:mod:`backend.shared_copies`).

A copy is written beside its place and renamed, so a process killed at any instant leaves either
the whole copy or none. It is not forced to disk: after a power cut a copy may be damaged, which
:meth:`WorkingCopies.open` notices, and the image is fetched again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

from PIL import Image

from backend.decode import decode_image
from backend.errors import ImageError, NotEnoughMemory
from backend.kept_copies import KeptCopies
from backend.settings import Settings
from backend.shared_copies import copy_key
from backend.shared_files import SharedFiles, shared_files
from model.errors import ArgumentError
from model.files import remove_abandoned, remove_quietly, storage_error

LOSSLESS_SIDE = 64
"""Pictures with a shorter side up to this many pixels are kept without loss."""

_SUFFIXES = (".jpg", ".png")
_PNG = b"\x89PNG\r\n"


class Decode(Protocol):
    """What turns the bytes of others into a picture, as :func:`decode_image` does."""

    def __call__(self, data: bytes, *, max_pixels: int, side: int) -> Image.Image:
        """The picture, or :class:`ImageError`."""


class WorkingCopies:
    """A folder of working copies, safe for threads and processes at the same time.

    ``side``: wanted shorter side in pixels, of images put from now on. ``max_pixels``: largest
    image that is decoded. ``decode``: what decodes the images that are put. ``shared``: the bucket
    that holds the copies, of which the folder then keeps at most ``max_bytes``.
    """

    def __init__(
        self,
        folder: Path,
        side: int,
        *,
        max_pixels: int = 100_000_000,
        decode: Decode = decode_image,
        shared: SharedFiles | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._shared = shared
        self._kept = None
        if shared is not None and max_bytes is not None:
            self._kept = KeptCopies(folder, max_bytes, shared)
        self._folder = folder
        self._side = side
        self._max_pixels = max_pixels
        self._decode = decode
        self._unfinished = folder / "unfinished"
        self._sweep()

    def path(self, digest: str) -> Path:
        """Where the copy is, or where it would be."""
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ArgumentError(f"digest={digest[:80]!r}: must be 64 hexadecimal digits.")
        places = [self._folder / digest[:2] / (digest + suffix) for suffix in _SUFFIXES]
        return next((place for place in places if place.exists()), places[0])

    def has(self, digest: str) -> bool:
        """Whether a copy is kept; one that only the bucket has is fetched."""
        return self.path(digest).exists() or self._fetched(digest)

    def put(self, data: bytes) -> str:
        """Keep a copy of the image in ``data``; the SHA-256 of ``data`` in hexadecimal.

        Nothing more when it is there. :class:`ImageError` (``retry=False``) when ``data`` cannot be
        decoded, :class:`StorageError` when the copy cannot be written.
        """
        return self.put_image(data)[0]

    def put_image(self, data: bytes) -> tuple[str, Image.Image | None]:
        """As :meth:`put`; also the picture before its copy was compressed, where it was now."""
        digest = hashlib.sha256(data).hexdigest()
        if self.path(digest).exists():
            return digest, None
        image = self._decode(data, max_pixels=self._max_pixels, side=self._side)
        encoded, suffix = _encoded(image)
        if self._shared is not None:
            self._shared.put(copy_key(digest), encoded)
        self._write(self._folder / digest[:2] / (digest + suffix), encoded)
        return digest, image

    def open(self, digest: str) -> Image.Image:
        """The copy as an RGB picture, loaded whole.

        A missing or damaged one raises :class:`ImageError` with ``retry=True``; a damaged one is
        removed, so that fetching the image again mends it, and where the bucket has a whole one,
        that is taken. :class:`StorageError` when the bucket is needed, and cannot be had.
        """
        path = self.path(digest)
        if not path.exists() and self._fetched(digest):
            path = self.path(digest)
        try:
            data = path.read_bytes()
            if self._kept is not None:
                self._kept.used(path)
        except FileNotFoundError:
            raise ImageError(f"There is no working copy {path}.", retry=True) from None
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}.", retry=True) from None
        try:
            return self._decoded(data)
        except NotEnoughMemory:
            raise
        except ImageError as error:
            path.unlink(missing_ok=True)
            image = self._of_the_bucket(digest)
            if image is not None:
                return image
            raise ImageError(
                f"The working copy {path} was damaged and is removed. {error.message}", retry=True
            ) from None

    def _decoded(self, data: bytes) -> Image.Image:
        """A copy as a picture. ImageError where it is damaged, NotEnoughMemory, with
        ``retry=True``, where that cannot be told."""
        try:
            return decode_image(data, max_pixels=self._max_pixels, side=self._side)
        except NotEnoughMemory as error:
            raise NotEnoughMemory(error.message, retry=True, mend=error.mend) from None

    def _of_the_bucket(self, digest: str) -> Image.Image | None:
        """The bucket's copy in place of a damaged one; None where it has none, or a damaged one,
        which is removed."""
        data = None if self._shared is None else self._shared.get(copy_key(digest))
        if self._shared is None or data is None:
            return None
        try:
            image = self._decoded(data)
        except NotEnoughMemory:
            raise
        except ImageError:
            self._shared.remove([copy_key(digest)])
            return None
        self._keep(digest, data)
        return image

    def _fetched(self, digest: str) -> bool:
        """Whether the bucket has a copy; it is then here."""
        data = None if self._shared is None else self._shared.get(copy_key(digest))
        if data is None:
            return False
        self._keep(digest, data)
        return True

    def _keep(self, digest: str, encoded: bytes) -> None:
        suffix = ".png" if encoded.startswith(_PNG) else ".jpg"
        self._write(self._folder / digest[:2] / (digest + suffix), encoded)

    def _write(self, path: Path, encoded: bytes) -> None:
        if self._kept is not None:
            self._kept.make_room(len(encoded))
        name = ""
        try:
            try:
                handle, name = tempfile.mkstemp(dir=self._unfinished)
            except FileNotFoundError:
                self._unfinished.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=self._unfinished)
            with open(handle, "wb") as file:
                file.write(encoded)
            try:
                os.replace(name, path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(name, path)
        except OSError as error:
            if name:
                remove_quietly(Path(name))
            raise storage_error("The working copy", path, error, len(encoded)) from None

    def _sweep(self) -> None:
        """Remove what killed processes left unfinished."""
        if self._unfinished.is_dir():
            remove_abandoned(self._unfinished.iterdir())


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    if min(image.size) <= LOSSLESS_SIDE:
        image.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue(), ".jpg"


def working_copies(settings: Settings) -> WorkingCopies:
    """The working copies that the settings name, to be read."""
    return WorkingCopies(
        settings.working_copies,
        settings.working_copy_side,
        shared=shared_files(settings),
        max_bytes=settings.copies_max_bytes,
    )
