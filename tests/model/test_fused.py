from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

from model.architectures import BACKBONES
from model.fused import DoneBefore, FusedConvolution, fuse_frozen, spare_slow_kernels


def with_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network, its normalisations in evaluation mode and not those of a new network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def made(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return with_statistics(BACKBONES[name].build())


def gradients(network: nn.Module, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    output = network(inputs)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "efficientnet_b0"])
def test_outputs_and_gradients_stay_what_they_were(name: str) -> None:
    network = made(name).double()
    fused = copy.deepcopy(network).float()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert fuse_frozen(fused, 64) == norms
    fused.double()
    inputs = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator())
    torch.testing.assert_close(fused(inputs), network(inputs), rtol=1e-9, atol=1e-12)
    wanted, found = gradients(network, inputs), gradients(fused, inputs)
    assert found.keys() == wanted.keys() == dict(network.named_parameters()).keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-6, atol=1e-8)
    assert fused.state_dict().keys() == network.state_dict().keys()


def test_a_fused_pixel_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0))
    convolution, norm = network
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        convolution.weight.fill_(2.0)
        convolution.bias.fill_(1.0)
        norm.running_mean, norm.running_var = torch.tensor([3.0]), torch.tensor([4.0])
        norm.weight.fill_(5.0)
        norm.bias.fill_(7.0)
    network = nn.Sequential(nn.Conv2d(3, 1, 1), *network)
    assert fuse_frozen(network, 4) == 1
    assert type(norm) is DoneBefore
    # (2 · 6 + 1 - 3) / 2 · 5 + 7
    assert float(network[1:](torch.full((1, 1, 1, 1), 6.0)).detach()) == pytest.approx(32.0)


class Reused(nn.Module):
    """What its convolution makes is needed without the normalisation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.conv(inputs)
        normalised: torch.Tensor = self.norm(maps)
        return (normalised + maps).mean(dim=(2, 3))


class Twice(Reused):
    """One convolution and one normalisation, each of which is used twice."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = self.norm(self.conv(inputs))
        second: torch.Tensor = self.norm(self.conv(first[:, :3]))
        return second.mean(dim=(2, 3))


def test_a_network_that_would_give_something_else_stays(caplog: pytest.LogCaptureFixture) -> None:
    network = with_statistics(Reused())
    inputs = torch.ones(1, 3, 8, 8)
    before = network(inputs)
    with caplog.at_level(logging.WARNING):
        assert fuse_frozen(network, 8) == 0
    assert "not fused" in caplog.text
    assert torch.equal(network(inputs), before)


def test_layers_that_are_used_twice_stay() -> None:
    network = with_statistics(Twice())
    assert fuse_frozen(network, 8) == 0
    assert not any(isinstance(module, FusedConvolution) for module in network.modules())


def test_the_mode_of_a_network_stays() -> None:
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()))
    network[2].train()
    fuse_frozen(network, 8)
    assert [module.training for module in network.children()] == [False, False, True]


def test_depthwise_convolutions_with_a_stride_run_in_32_bits() -> None:
    network = made("mobilenet_v2")
    assert spare_slow_kernels(network) == 4
    spared = [m for m in network.modules() if isinstance(m, FusedConvolution)]
    assert {(m.stride, m.groups == m.in_channels) for m in spared} == {((2, 2), True)}
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append((inputs[0].dtype, output.dtype))

    spared[0].register_forward_hook(note)
    spared[0].weight.register_hook(lambda grad: seen.append((grad.dtype, grad.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(1, 3, 64, 64)).float().sum().backward()
    # Maps stay in 16 bits between the layers, the gradients of its weights never were.
    assert seen == [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)]
