"""Seeded weights for tests, written to a folder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models.convnext import CNBlock


@pytest.fixture(scope="session")
def seeded_model() -> Callable[[str], torch.nn.Module]:
    """Name -> torchvision's own network with random, seeded weights, in evaluation mode.

    One pass over noise has set its batch norms, so that the embeddings have a healthy size.
    ConvNeXt's blocks count from the start, and VGG-16 is without its 119 million dense weights.
    """

    @functools.cache
    def make(name: str) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(7)
            model = torchvision.models.get_model(name, weights=None)
            for layer in model.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = 1.0
                if isinstance(layer, CNBlock):
                    layer.layer_scale.fill_(0.5)
            if name == "vgg16":
                model.classifier = torch.nn.Linear(512 * 7 * 7, 2)
            model(torch.randn(4, 3, 64, 64))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def seeded_weights(
    seeded_model: Callable[[str], torch.nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with seeded weights of the smallest backbone, its classifier included."""
    folder = tmp_path_factory.mktemp("seeded-weights")
    state = seeded_model("mobilenet_v3_small").state_dict()
    torch.save(state, folder / "mobilenet_v3_small.pth")
    return folder
