"""Fetch the image of a task safely, and keep one working copy of it.

What is kept, and where: :mod:`backend.working_copies`. The bytes of others are decoded in
:mod:`backend.decoders`.
"""

from __future__ import annotations

import re
import ssl

import httpx
from PIL import Image

from backend.addresses import Resolver, parse_networks, resolve
from backend.data_uris import read_data_uri
from backend.decoders import Decoders
from backend.errors import ImageError, LabelStudioError
from backend.fetch import GuardedHttp, LabelStudioAccess
from backend.metrics import count_fetch_failure, count_fetched
from backend.settings import Settings
from backend.shared_files import shared_files
from backend.working_copies import WorkingCopies
from model.errors import StorageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_STORAGE = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+/[^\s]", re.IGNORECASE)
_NEVER = frozenset(
    {"about", "blob", "chrome", "dict", "file", "filesystem", "ftp", "ftps", "gopher", "jar"}
    | {"javascript", "ldap", "ldaps", "mailto", "netdoc", "sftp", "smb", "ssh", "telnet", "tftp"}
    | {"view-source", "ws", "wss"}
)


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
            shared=shared_files(settings),
            max_bytes=settings.copies_max_bytes,
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
