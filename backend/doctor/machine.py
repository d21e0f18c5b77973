"""Checks of this machine: the data folder, the disk, secrets' files, the processor, settings."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

import httpx

from backend.doctor.examination import Examination
from backend.doctor.findings import Outcome, failed, ok, warning
from backend.secret_files import SUFFIX
from backend.secrets import FILES
from backend.settings import SECRETS, variable_name
from model.plurals import counted

LEAST_FREE, FEW_FREE = 500_000_000, 2_000_000_000
"""Bytes: below the first nothing may be stored any more; below the second it soon may not."""
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre"}
)
SLOWEST_PUSH = 200.0
"""Seconds beside Label Studio's time limit that 20,000 predictions in one request may take."""
WEIGHTS_SECONDS = 8.0
PREDICT_LIMIT = 100.0
"""Seconds that Label Studio waits for /predict."""


def data_folder(exam: Examination) -> Outcome:
    """The data folder is there, is ours to write, and is not on a network file system."""
    folder = exam.settings.data_dir.resolve()
    if not folder.is_dir():
        return failed(
            f"The data folder {folder} is not there.",
            "Set TIEBREAK_DATA_DIR to the folder that the server and the trainer use, or start "
            "them once, which makes it.",
        )
    probe = folder / f".doctor.{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return failed(
            f"Nothing can be written into the data folder {folder} ({error.strerror}).",
            "Make it writable for the user that Tiebreak runs as, or run this command as that "
            "user.",
        )
    finally:
        # In a folder that may not be searched, a file that is not there cannot be removed either.
        with contextlib.suppress(OSError):
            probe.unlink()
    kind = file_system(folder, Path("/proc/self/mounts"))
    if kind in NETWORK_FILE_SYSTEMS and exam.settings.database_url is None:
        return warning(
            f"The data folder {folder}, with the SQLite database, is on a network file system "
            f"({kind}).",
            "Put it on a local disk, or set DATABASE_URL to a PostgreSQL.",
            why="SQLite's locks do not hold there, and a database may be damaged.",
        )
    return ok(f"The data folder {folder} can be written")


def file_system(folder: Path, mounts: Path) -> str:
    """The kind of file system that a folder is on, by a list of mounts; empty if unknown."""
    found = (0, "")
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1]))
        if folder.is_relative_to(point):
            found = max(found, (len(point.parts), fields[2]))
    return found[1]


def disk(exam: Examination) -> Outcome:
    """There is room for what is learned."""
    folder = _existing(exam.settings.data_dir.resolve())
    free = shutil.disk_usage(folder).free
    shown = f"{free / 1e9:.1f} GB are free where the data folder is ({folder})"
    mend = (
        "Make room there, lower TIEBREAK_COPIES_MAX_BYTES, or remove old versions: "
        "tiebreak versions PROJECT --prune."
    )
    if free < LEAST_FREE:
        return failed(f"Only {shown}.", mend)
    if free < FEW_FREE:
        return warning(f"Only {shown}.", mend)
    return ok(shown)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def secret_files(exam: Examination) -> Outcome:
    """Only Tiebreak's own user may read the secrets."""
    own = [path for name in FILES if (path := exam.secret_file(name)).exists()]
    given = [os.environ.get(f"{variable_name(name)}{SUFFIX}") for name in SECRETS]
    named = [path for each in given if each and (path := Path(each)).exists()]
    if open_own := [path for path in own if is_open(path)]:
        shown = ", ".join(str(path.resolve()) for path in open_own)
        return failed(
            f"Other users of this machine may read {shown}.",
            f"chmod 600 {shown}; remove a file whose secret may be known, and start the server "
            "again: it makes a new one.",
            fix="file modes",
        )
    if open_named := [path for path in named if is_open(path)]:
        shown = ", ".join(map(str, open_named))
        return warning(
            f"Other users of this machine may read {shown}.",
            "chmod 600 the file, unless it is a container's own, where there are no others.",
        )
    return ok(f"{counted(len(own) + len(named), 'file')} with secrets, not open to other users")


def is_open(path: Path) -> bool:
    """Whether others than a file's owner may do anything with it."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def timeouts(exam: Examination) -> Outcome:
    """No time limit cuts off what another one allows."""
    settings = exam.settings
    needed = max(settings.label_studio_timeout, settings.image_timeout)
    if settings.step_seconds <= needed:
        return failed(
            f"TIEBREAK_STEP_SECONDS={settings.step_seconds:g} is not longer than "
            f"TIEBREAK_LABEL_STUDIO_TIMEOUT={settings.label_studio_timeout:g} and "
            f"TIEBREAK_IMAGE_TIMEOUT={settings.image_timeout:g}.",
            f"Set TIEBREAK_STEP_SECONDS to {needed + SLOWEST_PUSH:g} or more.",
            why="A trainer that waits for one slow answer would be taken for hung and replaced, "
            "again and again.",
        )
    if settings.predict_seconds >= PREDICT_LIMIT:
        return failed(
            f"TIEBREAK_PREDICT_SECONDS={settings.predict_seconds:g} is not shorter than the "
            f"{PREDICT_LIMIT:g} s that Label Studio waits.",
            "Set it to 80 or less.",
            why="Label Studio gives up before it is answered, and stores nothing.",
        )
    if settings.step_seconds < settings.label_studio_timeout + SLOWEST_PUSH:
        return warning(
            f"TIEBREAK_STEP_SECONDS={settings.step_seconds:g} may be too short for 20,000 "
            "predictions in one request.",
            f"Set it to {settings.label_studio_timeout + SLOWEST_PUSH:g} or more.",
        )
    return ok("The time limits go together")


def processor(exam: Examination) -> Outcome:
    """A GPU that is there is used."""
    if not (Path("/dev/nvidia0").exists() or Path("/dev/nvidiactl").exists()):
        return ok("There is no GPU here; the processor does all of it")
    import torch

    if torch.cuda.is_available():
        return ok(f"{torch.cuda.get_device_name()} is used")
    return warning(
        "There is a GPU here that torch cannot use.",
        "Install a torch for it and a driver that suits it; in Docker give the container the GPU "
        "(--gpus all).",
    )


def weights(exam: Examination) -> Outcome:
    """The pretrained weights are here, or can be fetched."""
    from model.backbones import BACKBONES
    from model.weights import PACKAGES, kept_weights

    settings = exam.settings
    wanted = BACKBONES[settings.backbone].pretrained
    found = kept_weights(wanted, weights_dir=settings.weights_dir, cache_dir=settings.weights_cache)
    if found:
        return ok(f"The weights of {settings.backbone} are in {found}")
    if wanted.file_name in PACKAGES or (wanted.url and _offers(wanted.url)):
        return warning(
            f"The weights of {settings.backbone} are not here yet.",
            "The trainer fetches them when it first needs them, --fix does at once.",
            fix="weights",
        )
    return failed(
        f"The weights of {settings.backbone} are not here, and {wanted.url or 'nobody'} does not "
        "offer them to this machine.",
        f"Put {wanted.file_name} into a folder and name that folder in TIEBREAK_WEIGHTS_DIR, or "
        "connect this machine to the internet and give --fix.",
        fix="weights",
    )


def _offers(url: str) -> bool:
    """Whether an address has something for this machine; nothing is downloaded."""
    try:
        return httpx.head(url, timeout=WEIGHTS_SECONDS, follow_redirects=True).is_success
    except httpx.HTTPError:
        return False
