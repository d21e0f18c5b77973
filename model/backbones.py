"""Pretrained networks: normalised images in, one embedding per image out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from model.architectures import BACKBONES, FROM_SCRATCH, BackboneSpec
from model.errors import ArgumentError, WeightsError
from model.weights import file_digest, find_weights

__all__ = [
    "BACKBONES",
    "FROM_SCRATCH",
    "LARGEST_INPUT",
    "SMALLEST_INPUT",
    "Backbone",
    "BackboneSpec",
    "build_network",
    "check_backbone",
    "default_input_size",
    "load_backbone",
    "read_state_dict",
]

SMALLEST_INPUT, LARGEST_INPUT = 32, 512
# The networks halve their maps five times.
STRIDE = 32
COUNT = ".num_batches_tracked"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network, ready for inference.

    ``identity``    name, first 8 hex digits of the SHA-256 of the weights file, and input size:
                    ``mobilenet_v2-b0353104-224px``; equal identities give equal embeddings
    ``width``       numbers in one embedding
    ``input_size``  s, the side of the square input in pixels
    ``network``     (n, 3, s, s) float32 ImageNet-normalised -> (n, width)
    """

    name: str
    identity: str
    width: int
    input_size: int
    network: torch.nn.Module


def load_backbone(
    name: str,
    *,
    input_size: int = 224,
    weights_dir: Path | None = None,
    cache_dir: Path,
    on_progress: Callable[[str], None] | None = None,
) -> Backbone:
    """The backbone ``name`` with pretrained weights, in evaluation mode, without gradients.

    ``weights_dir`` is looked in first; downloads are kept in ``cache_dir``, so a second load
    needs no network. ``on_progress`` gets a sentence per step.

    :class:`ArgumentError` for an unknown ``name`` or an ``input_size`` outside 32 to 512;
    :class:`WeightsError` when no weights can be had, or a file has not all of the network's
    weights, has others, or holds numbers that are not finite.
    """
    check_backbone(name, input_size)
    spec = BACKBONES[name]
    path = find_weights(
        spec.pretrained, weights_dir=weights_dir, cache_dir=cache_dir, on_progress=on_progress
    )
    network = build_network(spec, read_state_dict(path), source=str(path))
    identity = f"{name}-{file_digest(path)[:8]}-{input_size}px"
    return Backbone(name, identity, spec.width, input_size, network)


def check_backbone(name: str, input_size: int) -> None:
    """:class:`ArgumentError` for an unknown ``name`` or an ``input_size`` outside 32 to 512."""
    if name in FROM_SCRATCH:
        raise ArgumentError(
            f"name={name!r} has no pretrained weights: it trains from scratch, for comparisons "
            f"only. One of {', '.join(BACKBONES)} is allowed."
        )
    if name not in BACKBONES:
        raise ArgumentError(f"name={name!r}; one of {', '.join(BACKBONES)} is allowed.")
    if not SMALLEST_INPUT <= input_size <= LARGEST_INPUT:
        raise ArgumentError(
            f"input_size={input_size}; {SMALLEST_INPUT} to {LARGEST_INPUT} pixels is allowed."
        )


def default_input_size(shorter_side: int) -> int:
    """A sensible input size for images whose shorter side has ``shorter_side`` pixels, 1 or more.

    Small images are enlarged to 160 pixels: networks that learned on 224 see little in 32. Larger
    ones keep their size, up to the next multiple of 32, until 224. docs/backbones.md has the
    measurements behind both ends.
    """
    if shorter_side < 1:
        raise ArgumentError(f"shorter_side={shorter_side}; 1 or more is allowed.")
    whole = -(-shorter_side // STRIDE) * STRIDE
    return min(max(whole, 160), 224)


def build_network(
    spec: BackboneSpec, state: Mapping[str, torch.Tensor], *, source: str
) -> torch.nn.Module:
    """The network of ``spec`` with the weights ``state``, whose classifier is left out.

    Floating-point weights become float32; a batch norm's count of batches may be a vector of one,
    as programs without scalars write it. :class:`WeightsError` names ``source`` and the keys
    that are missing, unexpected, of another shape or not finite.
    """
    # Built without memory, so that a weight that is not loaded cannot be a random one.
    with torch.device("meta"):
        network = spec.build()
    kept = {
        key: _plain(key, value)
        for key, value in state.items()
        if not key.startswith(f"{spec.head}.")
    }
    problems = _problems(network.state_dict(), kept)
    if problems:
        raise WeightsError(
            f"{source} does not fit {spec.name}: {'; '.join(problems)}.",
            mend=f"Use a state dict of torchvision's {spec.architecture or spec.name}.",
        )
    network.load_state_dict(kept, strict=False, assign=True)
    return network.eval().requires_grad_(False)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` or ``.pth`` file, by key; executes nothing of the file.

    :class:`WeightsError` when it cannot be read or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    # A cut or changed file makes the readers raise nearly anything.
    except Exception as error:
        why = next(iter(str(error).splitlines()), "")
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}: {why}).",
            mend="Fetch the file again.",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(
            f"{path} holds something other than named tensors.",
            mend="Save the state dict of the network alone.",
        )
    return dict(state)


def _plain(key: str, value: torch.Tensor) -> torch.Tensor:
    if key.endswith(COUNT) and value.shape == (1,):
        return value.reshape(())
    return value.float() if value.is_floating_point() else value


def _problems(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    # The count of batches matters in training only, and older files have none.
    needed = {key for key in wanted if not key.endswith(COUNT)}
    both = sorted(set(wanted) & set(given))
    named = {
        "missing": sorted(needed - set(given)),
        "unexpected": sorted(set(given) - set(wanted)),
        "of another shape": [key for key in both if wanted[key].shape != given[key].shape],
        "not finite": [key for key in both if not bool(torch.isfinite(given[key]).all())],
    }
    return [f"{_shown(keys)} {what}" for what, keys in named.items() if keys]


def _shown(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
