"""Steps of a fine-tune: which parameters move how fast, and the state that survives a kill."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi
from typing import Literal

import torch
from torch import nn

OptimiserName = Literal["adamw", "sgd"]

STATE_PREFIX = "optimiser."


def parameter_groups(
    backbone: nn.Module, heads: nn.Module, *, backbone_rate: float, head_rate: float, decay: float
) -> list[dict[str, object]]:
    """Groups for an optimiser, each with its peak learning rate.

    Biases and the scales of normalisations are not decayed: pulling them to 0 takes the network
    away from what it knows without making it simpler.
    """
    groups: list[dict[str, object]] = []
    for module, rate in ((backbone, backbone_rate), (heads, head_rate)):
        parameters = [p for p in module.parameters() if p.requires_grad]
        for decayed in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decayed]
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "lr": rate,
                        "peak": rate,
                        "weight_decay": decay if decayed else 0.0,
                    }
                )
    return groups


def make_optimiser(
    name: OptimiserName, groups: list[dict[str, object]], momentum: float
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019, algorithm 2) or
    SGD with Nesterov's momentum."""
    if name == "adamw":
        return torch.optim.AdamW(groups, foreach=True)
    return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0)


def rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak rate at ``step`` of ``steps``, in (0, 1].

    It rises in a straight line over the first ``warmup_share`` of the steps, then falls by half a
    cosine: Loshchilov and Hutter, *SGDR* (2017), eq. 5, with one period.
    """
    warm = round(warmup_share * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Learning rates of the next step, as a share of each group's peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's memory, parameter by parameter in the order of the groups."""
    found = {}
    for i, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                found[f"{STATE_PREFIX}{i}.{key}"] = value
    return found


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what :func:`optimiser_tensors` gave."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(STATE_PREFIX):
            i, key = name.removeprefix(STATE_PREFIX).split(".", 1)
            state.setdefault(int(i), {})[key] = tensor
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
