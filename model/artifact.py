"""A model version on disk: a folder with ``heads.safetensors`` and ``model.json``. No pickle.

``model.json`` carries the size and the SHA-256 of the tensors and a SHA-256 of its own content,
and its bytes are the one canonical rendering of that content. So a cut at any length and any
changed byte, in either file, is found when the version is loaded.

What survives a crash: both files are written to a hidden folder beside the target, flushed to
disk, and the folder is renamed. A version is there whole or not at all; a process killed in
between leaves at most a ``.partial`` folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt
from safetensors import SafetensorError

from model.errors import ArgumentError, ArtifactError
from model.files import remove_quietly, storage_error, sync_folder, write_through
from model.head import Head

FORMAT = 1
TENSORS_FILE = "heads.safetensors"
DESCRIPTION_FILE = "model.json"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Artifact:
    """One version of a project's model.

    ``version``   number of the version, 0 or more
    ``backbone``  identity of the backbone whose embeddings the heads read
    ``heads``     control name -> head; the order is kept
    ``manifest``  anything that JSON can hold: metrics, digest of the labels, seed, libraries
    """

    version: int
    backbone: str
    heads: dict[str, Head]
    manifest: dict[str, JsonValue]


class _HeadEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    control: str
    classes: list[str]
    multiple: bool


class _Tensors(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: str
    size: int


class _Description(BaseModel):
    """``model.json``. Head i's arrays are the tensors ``i.weights``, ``i.bias``, …"""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    version: NonNegativeInt
    backbone: str
    heads: list[_HeadEntry]
    manifest: dict[str, JsonValue]
    tensors: _Tensors
    sha256: str


def save_artifact(folder: Path, artifact: Artifact) -> None:
    """Write ``artifact`` to ``folder``, whole or not at all; a folder that holds it is left as is.

    :class:`ArgumentError` when the artifact cannot be stored: arrays that do not fit its classes
    or each other, or a manifest that is not JSON (infinite numbers, NaN and lone surrogates are
    not; tuples are read back as lists).
    :class:`ArtifactError` when ``folder`` exists with other content; :class:`StorageError` when it
    cannot be written.
    """
    files = _render(artifact)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            _require_same(folder, files)
            return
        partial.mkdir()
        for name, data in files.items():
            write_through(partial / name, data)
        sync_folder(partial)
        os.rename(partial, folder)
        sync_folder(folder.parent)
    except OSError as error:
        if folder.exists():
            # Another process has written the version in the meantime.
            _require_same(folder, files)
            return
        size = sum(map(len, files.values()))
        raise storage_error(f"Version {artifact.version}", folder, error, size) from error
    finally:
        remove_quietly(partial)


def load_artifact(folder: Path) -> Artifact:
    """The version stored in ``folder``, after every check; needs no torch.

    :class:`ArtifactError` when a file is missing, cut or changed, when a tensor has a wrong shape
    or type, and when the format is one that this program does not know.
    """
    description = _describe(folder)
    heads = _heads(folder, description.heads, _tensors(folder, description.tensors))
    return Artifact(description.version, description.backbone, heads, description.manifest)


def _render(artifact: Artifact) -> dict[str, bytes]:
    """File name -> bytes; equal artifacts give equal bytes."""
    arrays: Arrays = {}
    entries = []
    for i, (control, head) in enumerate(artifact.heads.items()):
        for key, array in head.to_arrays().items():
            arrays[f"{i}.{key}"] = np.ascontiguousarray(array)
        entries.append(
            {"control": control, "classes": list(head.classes), "multiple": head.multiple}
        )
    if problem := _misfit(arrays):
        raise ArgumentError(f"artifact.heads cannot be stored: {problem}.")
    tensors = safetensors.numpy.save(arrays)
    content = {
        "format": FORMAT,
        "version": artifact.version,
        "backbone": artifact.backbone,
        "heads": entries,
        "manifest": artifact.manifest,
        "tensors": {"sha256": hashlib.sha256(tensors).hexdigest(), "size": len(tensors)},
    }
    try:
        # Once through JSON, so that what is stored is what will be read: tuples become lists.
        content = json.loads(_canonical(content))
        content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
        _Description.model_validate(content)
        description = _canonical(content)
        if _canonical(json.loads(description)) != description:
            raise ValueError("two keys are the same once they are text")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"artifact cannot be stored as JSON: {error}.") from error
    return {TENSORS_FILE: tensors, DESCRIPTION_FILE: description}


def _canonical(content: object) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    return text.encode() + b"\n"


def _misfit(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """What is wrong with the heads' arrays, empty when nothing is."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            return f"{name} is {array.dtype}, float32 is needed"
        if not np.isfinite(array).all():
            return f"{name} holds numbers that are not finite"
    widths = {array.shape[0] for name, array in arrays.items() if name.endswith(".weights")}
    if len(widths) > 1:
        return f"the heads read embeddings of different widths: {sorted(widths)}"
    return ""


def _describe(folder: Path) -> _Description:
    path = folder / DESCRIPTION_FILE
    data = _read(path)
    try:
        content = json.loads(data.decode())
        known = isinstance(content, dict) and content.get("format", FORMAT) == FORMAT
        if not known:
            raise ArtifactError(
                f"{path} has a format that this program does not know ({FORMAT} is known).",
                mend="Use the program that wrote it, or a newer one.",
            )
        description = _Description.model_validate(content)
        promised = content.pop("sha256")
        whole = _canonical({**content, "sha256": promised}) == data
        if not whole or hashlib.sha256(_canonical(content)).hexdigest() != promised:
            raise ValueError("its content is not what its SHA-256 says")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return description


def _tensors(folder: Path, promised: _Tensors) -> Arrays:
    path = folder / TENSORS_FILE
    data = _read(path)
    if len(data) != promised.size:
        raise _damaged(path, f"it has {len(data)} bytes, {promised.size} are promised")
    if hashlib.sha256(data).hexdigest() != promised.sha256:
        raise _damaged(path, "its content is not what its SHA-256 says")
    try:
        arrays: Arrays = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if problem := _misfit(arrays):
        raise _damaged(path, problem)
    return arrays


def _heads(folder: Path, entries: list[_HeadEntry], arrays: Arrays) -> dict[str, Head]:
    path = folder / TENSORS_FILE
    heads = {}
    for i, entry in enumerate(entries):
        prefix = f"{i}."
        own = {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        try:
            heads[entry.control] = Head.from_arrays(own, entry.classes, entry.multiple)
        except ArgumentError as error:
            raise _damaged(path, f"head {i}: {error.message}") from error
    if len(heads) != len(entries):
        raise _damaged(path.with_name(DESCRIPTION_FILE), "two heads have the same control")
    return heads


def _require_same(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        if not (folder / name).is_file() or _read(folder / name) != data:
            raise ArtifactError(
                f"{folder} exists and holds something else.",
                mend="Save under a version number that is not in use.",
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}).",
            mend="Restore the version from a copy, or go back to an earlier one.",
        ) from error


def _damaged(path: Path, why: object) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged: {why}.",
        mend="Restore the version from a copy, or go back to an earlier one.",
    )
