"""The state of a training on disk, so that a killed one goes on where it was.

One safetensors file that holds the tensors and, in its header, a JSON description. It is written
beside and renamed: a kill at any instant leaves the state before or the one after, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.files import remove_quietly, sync_folder, writing

STATE_FILE = "state.safetensors"


def save_checkpoint(
    folder: Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]
) -> None:
    """Replace what ``folder`` holds. :class:`StorageError` when it cannot be written."""
    # Channels-last tensors are not contiguous, and none may share memory with another.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in plain.values())
    path = folder / STATE_FILE
    partial = folder / f"{STATE_FILE}.partial"
    try:
        with writing("The state of the fine-tune", path, size):
            folder.mkdir(parents=True, exist_ok=True)
            _write(plain, partial, {"description": json.dumps(description)})
            os.replace(partial, path)
            sync_folder(folder)
    finally:
        remove_quietly(partial)


def _write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        # It tells no number of the system's; the disk is all that can fail here.
        raise OSError(str(error)) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Tensors and description; None when there is none, or one that cannot be read."""
    path = folder / STATE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["description"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    return (tensors, description) if isinstance(description, dict) else None
