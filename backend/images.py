"""Fetch the image of a task safely, and keep one working copy of it.

A working copy is the picture after decoding (see :mod:`backend.decode`), named by the SHA-256 of
the original bytes: equal images of many tasks share one. Pictures whose shorter side is at most
64 pixels are kept as PNG, because JPEG would change every pixel of a small digit or icon; larger
ones as JPEG, quality 90, without chroma subsampling.

The bytes of others are decoded in :mod:`backend.decoders`. A copy is our own file and is decoded
here.

A copy is written beside its place and renamed, so a process killed at any instant leaves either
the whole copy or none. It is not forced to disk: after a power cut a copy may be damaged, which
:meth:`WorkingCopies.open` notices, and the image is fetched again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import ssl
import tempfile
import time
from pathlib import Path
from typing import Protocol

import httpx
from PIL import Image

from backend.addresses import Resolver, parse_networks, resolve
from backend.data_uris import read_data_uri
from backend.decode import decode_image
from backend.decoders import Decoders
from backend.errors import ImageError, LabelStudioError
from backend.fetch import GuardedHttp, LabelStudioAccess
from backend.metrics import count_fetch_failure, count_fetched
from backend.settings import Settings
from model.errors import ArgumentError, StorageError
from model.files import remove_quietly, storage_error

LOSSLESS_SIDE = 64
"""Pictures with a shorter side up to this many pixels are kept without loss."""

_SUFFIXES = (".jpg", ".png")
_ABANDONED_SECONDS = 3600.0
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_STORAGE = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+/[^\s]", re.IGNORECASE)
_NEVER = frozenset(
    {"about", "blob", "chrome", "dict", "file", "filesystem", "ftp", "ftps", "gopher", "jar"}
    | {"javascript", "ldap", "ldaps", "mailto", "netdoc", "sftp", "smb", "ssh", "telnet", "tftp"}
    | {"view-source", "ws", "wss"}
)


class Decode(Protocol):
    """What turns the bytes of others into a picture, as :func:`decode_image` does."""

    def __call__(self, data: bytes, *, max_pixels: int, side: int) -> Image.Image:
        """The picture, or :class:`ImageError`."""


class WorkingCopies:
    """A folder of working copies, safe for threads and processes at the same time.

    ``side``: wanted shorter side in pixels, of images put from now on. ``max_pixels``: largest
    image that is decoded. ``decode``: what decodes the images that are put.
    """

    def __init__(
        self,
        folder: Path,
        side: int,
        *,
        max_pixels: int = 100_000_000,
        decode: Decode = decode_image,
    ) -> None:
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
        """Whether a copy is kept."""
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Keep a copy of the image in ``data``; the SHA-256 of ``data`` in hexadecimal.

        Nothing more when it is there. :class:`ImageError` (``retry=False``) when ``data`` cannot be
        decoded, :class:`StorageError` when the copy cannot be written.
        """
        return self.put_image(data)[0]

    def put_image(self, data: bytes) -> tuple[str, Image.Image | None]:
        """As :meth:`put`; also the picture before its copy was compressed, where it was now."""
        digest = hashlib.sha256(data).hexdigest()
        if self.has(digest):
            return digest, None
        image = self._decode(data, max_pixels=self._max_pixels, side=self._side)
        encoded, suffix = _encoded(image)
        self._write(self._folder / digest[:2] / (digest + suffix), encoded)
        return digest, image

    def open(self, digest: str) -> Image.Image:
        """The copy as an RGB picture, loaded whole.

        A missing or damaged one raises :class:`ImageError` with ``retry=True``; a damaged one is
        removed, so that fetching the image again mends it.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ImageError(f"There is no working copy {path}.", retry=True) from None
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}.", retry=True) from None
        try:
            return decode_image(data, max_pixels=self._max_pixels, side=self._side)
        except ImageError as error:
            path.unlink(missing_ok=True)
            raise ImageError(
                f"The working copy {path} was damaged and is removed. {error.message}", retry=True
            ) from None

    def _write(self, path: Path, encoded: bytes) -> None:
        name = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._unfinished)
            with open(handle, "wb") as file:
                file.write(encoded)
            os.replace(name, path)
        except OSError as error:
            if name:
                remove_quietly(Path(name))
            raise storage_error("The working copy", path, error, len(encoded)) from None

    def _sweep(self) -> None:
        """Remove what killed processes left unfinished."""
        if not self._unfinished.is_dir():
            return
        for path in self._unfinished.iterdir():
            try:
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another process was first


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    if min(image.size) <= LOSSLESS_SIDE:
        image.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue(), ".jpg"


class ImageFetcher:
    """Fetches images by the URIs that tasks carry; may be shared by threads.

    ``label_studio`` resolves its own paths and storages, None means there is none. ``resolver``
    and ``ssl_context`` stand in for the system's, ``decoders`` for those that the settings ask for.
    """

    def __init__(
        self,
        settings: Settings,
        label_studio: LabelStudioAccess | None,
        *,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        self._label_studio = label_studio
        self._max_bytes = settings.image_max_bytes
        self._http = GuardedHttp(
            label_studio,
            max_bytes=settings.image_max_bytes,
            seconds=settings.image_timeout,
            max_redirects=settings.image_max_redirects,
            allowed=parse_networks(settings.image_allowed_networks),
            resolver=resolver,
            ssl_context=ssl_context,
        )
        self._own_decoders = decoders is None
        self.decoders = decoders or Decoders(
            settings.image_decoders,
            memory=settings.image_decode_memory,
            seconds=settings.image_decode_seconds,
        )
        self.copies = WorkingCopies(
            settings.working_copies,
            settings.working_copy_side,
            max_pixels=settings.image_max_pixels,
            decode=self.decoders.decode,
        )

    def close(self) -> None:
        """Close the kept connections, and end the processes that decode where they are its own."""
        self._http.close()
        if self._own_decoders:
            self.decoders.close()

    def fetch(self, uri: str, task_id: int) -> str:
        """Keep a working copy of the image at ``uri``; the SHA-256 of its original bytes.

        :class:`ImageError` names the URI without queries and data, which may be secret or long.
        """
        return self._fetched(uri, task_id)[0]

    def fetch_image(self, uri: str, task_id: int) -> tuple[str, Image.Image]:
        """As :meth:`fetch`, and the picture: what was just decoded, or the copy that was there."""
        digest, image = self._fetched(uri, task_id)
        return digest, image or self.copies.open(digest)

    def _fetched(self, uri: str, task_id: int) -> tuple[str, Image.Image | None]:
        uri = uri.strip()
        stage = "download"
        try:
            data = self._bytes(uri, task_id)
            stage = "decode"
            digest, image = self.copies.put_image(data)
        except StorageError:
            count_fetch_failure("disk")
            raise
        except ImageError as error:
            count_fetch_failure(error.cause or stage)
            raise ImageError(
                f"{shortened(uri)}: {error.message}", retry=error.retry, mend=error.mend
            ) from None
        count_fetched()
        return digest, image

    def _bytes(self, uri: str, task_id: int) -> bytes:
        found = _SCHEME.match(uri)
        scheme = found[1].lower() if found else ""
        if scheme == "data":
            return read_data_uri(uri, self._max_bytes)
        if scheme in ("http", "https"):
            return self._http.get(uri)
        if uri.startswith("/") and not uri.startswith(("//", "/\\")):
            return self._http.get(_on_label_studio(self._needed(), uri))
        if _STORAGE.match(uri) and scheme not in _NEVER:
            return self._http.get(self._resolved(uri, task_id))
        raise ImageError(
            "This is not an address that images are fetched from.",
            retry=False,
            mend="Allowed are http:, https:, data:, paths of Label Studio, and storages that it"
            " resolves, such as s3://bucket/key.",
        )

    def _needed(self) -> LabelStudioAccess:
        if self._label_studio is None:
            raise ImageError(
                "This image comes from Label Studio, and none is set.",
                retry=False,
                mend="Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.",
            )
        return self._label_studio

    def _resolved(self, uri: str, task_id: int) -> str:
        try:
            return self._needed().resolve_url(task_id, uri)
        except LabelStudioError as error:
            raise ImageError(
                error.message, retry=True, mend=error.mend, cause="label studio"
            ) from None


def _on_label_studio(label_studio: LabelStudioAccess, path: str) -> str:
    """``path`` on Label Studio; under a sub-path tasks carry it with and without."""
    base = label_studio.url.rstrip("/")
    prefix = httpx.URL(base).path.rstrip("/")
    if prefix and path.startswith(prefix + "/"):
        return base[: len(base) - len(prefix)] + path
    return base + path


def shortened(uri: str) -> str:
    """``uri`` fit for a log: no data, query, fragment or user name, at most 100 characters."""
    if uri[:5].lower() == "data:":
        return "data: URI"
    # Label Studio's local files have their path in the query.
    local = re.match(r"(?:/[^?#]*)?/data/local-files/\?d=[^?#&]*", uri)
    text = local[0] if local else re.split(r"[?#]", uri, maxsplit=1)[0]
    text = re.sub(r"//[^/]*@", "//", text)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 100 else text[:99] + "…"
