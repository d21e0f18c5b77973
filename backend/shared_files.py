"""Files that several machines share: objects of a bucket, by S3's protocol.

An object appears whole or not at all, and replaces one of its name in the same way. Whoever reads
one checks it against the SHA-256 that is known of it; a bucket keeps no promise of its own here.

Who may read and write there comes from where AWS's own programs look for it: ``AWS_…`` variables,
``~/.aws``, the machine's role. It stands in no setting, and no error or log line names it.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.settings import Settings
from backend.shared_errors import is_missing, shared_error
from model.errors import StorageError
from model.files import remove_quietly, sync_folder, write_whole, writing

CONNECT_SECONDS, READ_SECONDS = 5, 30
TRIES = 2
_ONE_REQUEST = 64 * 2**20
_QUIET = ("aiobotocore", "asyncio", "boto3", "botocore", "fsspec", "s3fs")
"""What they log in detail has signed addresses and keys in it."""


@dataclass(frozen=True)
class SharedFile:
    """What is known of an object: bytes, and seconds since the epoch by the bucket's clock."""

    size: int
    modified: float


class SharedFiles:
    """The objects below ``root``, as in ``s3://bucket/prefix``; safe for threads.

    ``endpoint``: address of an S3 that is not Amazon's. Every method raises :class:`StorageError`
    when the bucket is not there, refuses or does not answer.
    """

    def __init__(self, root: str, endpoint: str | None = None) -> None:
        self.root, self.endpoint = root.rstrip("/"), endpoint

    def put(self, key: str, data: bytes) -> None:
        """Make an object of these bytes."""
        with self._told(f"{key} cannot be written"):
            self._files.pipe_file(self._path(key), data)

    def put_file(self, key: str, path: Path) -> None:
        """Make an object of a file's bytes."""
        with self._told(f"{key} cannot be written"):
            self._files.put_file(str(path), self._path(key), chunksize=_ONE_REQUEST)

    def get(self, key: str) -> bytes | None:
        """The bytes of an object; None when there is none."""
        with self._told(f"{key} cannot be read"):
            try:
                data: bytes = self._files.cat_file(self._path(key))
            except Exception as error:
                if is_missing(error):
                    return None
                raise
            return data

    def get_file(self, key: str, path: Path) -> bool:
        """Write an object to a file, whole or not at all; False when there is none."""
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with writing("What is read from the bucket", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.touch()
            with self._told(f"{key} cannot be read"):
                try:
                    self._files.get_file(self._path(key), str(partial))
                except Exception as error:
                    if is_missing(error):
                        return False
                    raise
            with writing("What is read from the bucket", path):
                partial.replace(path)
                sync_folder(path.parent)
            return True
        finally:
            remove_quietly(partial)

    def under(self, prefix: str) -> dict[str, SharedFile]:
        """The objects whose keys begin with ``prefix``, which ends in a slash."""
        bucket, _, start = self._path(prefix).partition("/")
        beginning = len(self._path("").partition("/")[2])
        found, more = dict[str, SharedFile](), dict[str, str]()
        with self._told("the list of objects cannot be read"):
            while True:
                page = self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=start, **more)
                for each in page.get("Contents", ()):
                    seen = SharedFile(int(each["Size"]), each["LastModified"].timestamp())
                    found[each["Key"][beginning:]] = seen
                if not page.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, keys: list[str]) -> None:
        """Remove objects; one that is not there is none the less removed."""
        with self._told("objects cannot be removed"):
            for key in keys:
                bucket, _, name = self._path(key).partition("/")
                self._files.call_s3("delete_object", Bucket=bucket, Key=name)

    def check(self) -> None:
        """Raise unless the bucket lets itself be listed."""
        with self._told("the bucket cannot be used"):
            self._files.call_s3(
                "list_objects_v2", Bucket=self._path("").partition("/")[0], MaxKeys=1
            )

    def _path(self, key: str) -> str:
        return f"{self.root.removeprefix('s3://')}/{key}"

    @functools.cached_property
    def _files(self) -> Any:
        """The file system; it takes a second to import, which only those wait for who use it."""
        import fsspec

        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        config: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 1},
        }
        if self.endpoint:
            # A bucket in the host's name needs a name server that plays along.
            config["s3"] = {"addressing_style": "path"}
        made = fsspec.filesystem(
            "s3",
            endpoint_url=self.endpoint,
            config_kwargs=config,
            use_listings_cache=False,
            max_concurrency=1,  # else each read begins with a request for the size
        )
        made.retries = TRIES
        return made

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say of a bucket that fails what it is and what to do."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            raise shared_error(self.root, self.endpoint, what, error) from error


@functools.cache
def _made(root: str, endpoint: str | None) -> SharedFiles:
    return SharedFiles(root, endpoint)


def shared_files(settings: Settings) -> SharedFiles | None:
    """What ``TIEBREAK_ARTIFACTS`` names; None where the data folder is all there is."""
    return _made(settings.artifacts, settings.s3_endpoint) if settings.artifacts else None


def cached_file(shared: SharedFiles, key: str, path: Path) -> bool:
    """Whether a small object is there; it is then written to ``path``, whole or not at all."""
    data = shared.get(key)
    if data is None:
        return False
    with writing("What is read from the bucket", path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return True
