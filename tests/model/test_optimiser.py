from __future__ import annotations

from math import cos, pi

import pytest
import torch
from torch import nn

from model.optimiser import (
    make_optimiser,
    optimiser_tensors,
    parameter_groups,
    rate_factor,
    restore_optimiser,
    set_rates,
)


def test_rates_rise_in_a_line_and_fall_by_half_a_cosine() -> None:
    # Ten steps, the first two of them to warm up.
    found = [rate_factor(step, 10, 0.2) for step in range(10)]
    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert found[6] == pytest.approx(0.5)
    assert found[9] == pytest.approx(0.5 * (1 + cos(7 * pi / 8)))
    assert rate_factor(0, 1, 0.0) == 1.0


def network() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2)


def test_biases_and_normalisations_are_not_decayed() -> None:
    backbone, head = network()
    groups = parameter_groups(backbone, head, backbone_rate=0.1, head_rate=0.5, decay=0.3)
    shapes = [[tuple(p.shape) for p in group["params"]] for group in groups]  # type: ignore[attr-defined]
    assert shapes == [[(4, 3, 3, 3)], [(4,), (4,), (4,)], [(2, 4)], [(2,)]]
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0, 0.3, 0.0]
    assert [g["lr"] for g in groups] == [0.1, 0.1, 0.5, 0.5]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_restored_optimiser_goes_on_as_it_would_have(name: str) -> None:
    def steps(n: int, stop: int | None = None) -> list[torch.Tensor]:
        backbone, head = network()
        module = nn.ModuleList([backbone, head])

        def fresh() -> torch.optim.Optimizer:
            groups = parameter_groups(backbone, head, backbone_rate=0.1, head_rate=0.5, decay=0.01)
            return make_optimiser(name, groups, 0.9)  # type: ignore[arg-type]

        optimiser = fresh()
        inputs = torch.arange(3 * 25.0).view(1, 3, 5, 5) / 75
        for step in range(n):
            if step == stop:
                held = {k: v.clone() for k, v in optimiser_tensors(optimiser).items()}
                optimiser = fresh()
                restore_optimiser(optimiser, held)
            optimiser.zero_grad()
            backbone.eval()
            head(backbone(inputs).mean(dim=(2, 3))).square().sum().backward()
            set_rates(optimiser, rate_factor(step, n, 0.1))
            optimiser.step()
        return [p.detach().clone() for p in module.parameters()]

    whole, resumed = steps(5), steps(5, stop=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
