"""Fine-tuned networks: made trainable, written to disk and loaded again. No pickle.

A file holds the float32 state dict of a backbone's network, without the classifier, under
torchvision's names, as safetensors. Its bytes depend on the numbers alone, so equal networks have
equal SHA-256, and the SHA-256 names the network in the key of its embeddings.
"""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from model.backbones import BACKBONES, Backbone, build_network, check_backbone
from model.errors import ArgumentError, WeightsError
from model.files import write_whole, writing

PROMISE = re.compile(r"-([0-9a-f]{8,64})(-[0-9]+px)?\.safetensors$")


def trainable_copy(backbone: Backbone) -> torch.nn.Module:
    """A copy of the backbone's network in training mode, every parameter with a gradient.

    The backbone itself stays as it is, so it can go on embedding.
    """
    return copy.deepcopy(backbone.network).train().requires_grad_(True)


def save_network(path: Path, network: torch.nn.Module) -> str:
    """Write the weights of ``network`` to ``path``, whole or not at all; its SHA-256 in hex.

    Floating-point weights are stored as float32 wherever and however they lie in memory; a file
    that is there is replaced, its folder is made.

    :class:`ArgumentError` when a weight is not finite (a training that diverged) or ``path`` does
    not end in ``.safetensors``; :class:`StorageError` when the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise ArgumentError(f"path={path}; a name that ends in .safetensors is needed.")
    state = {key: _plain(value) for key, value in network.state_dict().items()}
    odd = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if odd:
        raise ArgumentError(f"network has weights that are not finite, {odd[0]} first.")
    data: bytes = safetensors.torch.save(state)
    with writing("The fine-tuned network", path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load_tuned(path: Path, name: str, input_size: int, *, digest: str | None = None) -> Backbone:
    """The network that :func:`save_network` wrote to ``path``, in evaluation mode.

    Its identity is made as for pretrained weights: ``<name>-<first 8 hex digits of the file's
    SHA-256>-<input_size>px``.

    ``name``    the backbone that was fine-tuned, one of ``BACKBONES``
    ``digest``  the SHA-256 that the file must have, its first 8 hex digits or more; by default
                what the file's name promises: ``…-<digits>.safetensors`` or
                ``…-<digits>-<px>px.safetensors``

    :class:`ArgumentError` when nothing promises a SHA-256, and for a ``name`` or ``input_size``
    that is not allowed. :class:`WeightsError` when the file is missing, cut or changed, or does
    not fit the backbone.
    """
    check_backbone(name, input_size)
    promised = _promised(path) if digest is None else digest.lower()
    if not re.fullmatch("[0-9a-f]{8,64}", promised):
        raise ArgumentError(f"digest={digest!r} for {path.name}; 8 to 64 hex digits are needed.")
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(promised):
        raise _damaged(path, f"its SHA-256 starts with {found[:8]}, {promised[:8]} is promised")
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    network = build_network(BACKBONES[name], state, source=str(path))
    identity = f"{name}-{found[:8]}-{input_size}px"
    return Backbone(name, identity, BACKBONES[name].width, input_size, network)


def _plain(value: torch.Tensor) -> torch.Tensor:
    """As safetensors can hold it: on the CPU, dense in the usual order, float32 where floating."""
    plain = value.detach().cpu().contiguous()
    return plain.float() if plain.is_floating_point() else plain


def _promised(path: Path) -> str:
    found = PROMISE.search(path.name)
    return found.group(1) if found else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror}).", mend="Restore it, or fine-tune again."
        ) from error


def _damaged(path: Path, why: object) -> WeightsError:
    return WeightsError(f"{path} is damaged: {why}.", mend="Restore it, or fine-tune again.")
