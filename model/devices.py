"""What this machine computes with."""

from __future__ import annotations

import torch

from model.errors import ArgumentError


def choose_device(name: str | None) -> torch.device:
    """The device of that name (``cpu``, ``cuda``, ``cuda:1`` …); by default a GPU where there is
    one. ArgumentError when it is not on this machine."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArgumentError(f"device={name!r} is not on this machine ({error}).") from None
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device={name!r}; cpu or cuda is allowed.")
    return device


def half_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that is fast on ``device``; None where none is."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    # torch names these probes as private, so a version without them runs in 32 bits.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return torch.bfloat16 if fast else None


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a failed computation ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
