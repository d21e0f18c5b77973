"""Which pretrained networks there are, and what is left out or changed of torchvision's.

Parameter names stay torchvision's. An embedding is what the classifier reads, the last feature
maps averaged over the picture, except VGG-16's (see :func:`average_the_maps`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision

from model.weights import PretrainedFile

# Networks of model.scratch: without pretrained weights, they cannot be loaded here.
FROM_SCRATCH = ("alexnet_bn", "small_cnn")


def average_the_maps(network: torch.nn.Module) -> None:
    """VGG-16: average the 512 last feature maps in place of the 7×7 grid for the dense layers.

    Its 4,096 dense features would cost 119 million weights more (of 134 million), embeddings of
    eight times the size, and inputs near 224 pixels, where the grid was learned.
    """
    network.avgpool = torch.nn.AdaptiveAvgPool2d(1)


def stride_in_first_convolution(network: torch.nn.Module) -> None:
    """ResNet-50 as He et al. (2016) published it: layers halve the maps in ``conv1``.

    torchvision halves them in ``conv2``, with the same weight names and shapes.
    """
    for layer in ("layer2", "layer3", "layer4"):
        for part, stride in (("conv1", 2), ("conv2", 1)):
            convolution = network.get_submodule(f"{layer}.0.{part}")
            assert isinstance(convolution, torch.nn.Conv2d)
            convolution.stride = (stride, stride)


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone by name.

    ``width``         numbers in one embedding
    ``head``          path of the classifier (and prefix of its keys) that is left out
    ``weights``       torchvision's name of the pretrained weights; None where it offers none
    ``architecture``  torchvision's name of the network; the backbone's own by default
    ``adapt``         changes the network that torchvision builds
    """

    name: str
    width: int
    head: str
    weights: str | None
    architecture: str | None = None
    adapt: Callable[[torch.nn.Module], None] | None = None

    @property
    def pretrained(self) -> PretrainedFile:
        """The weights file that torchvision offers, if it does."""
        url = torchvision.models.get_weight(self.weights).url if self.weights else None
        return PretrainedFile(self.name, url)

    def build(self) -> torch.nn.Module:
        """The network without its classifier, its weights not yet pretrained."""
        network: torch.nn.Module = torchvision.models.get_model(
            self.architecture or self.name, weights=None
        )
        network.set_submodule(self.head, torch.nn.Identity())
        if self.adapt:
            self.adapt(network)
        return network


# fmt: off
BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        # Sandler et al. 2018
        BackboneSpec("mobilenet_v2", 1280, "classifier", "MobileNet_V2_Weights.IMAGENET1K_V1"),
        # Howard et al. 2019; the classifier's own hidden layer is left out too
        BackboneSpec(
            "mobilenet_v3_small", 576, "classifier", "MobileNet_V3_Small_Weights.IMAGENET1K_V1"
        ),
        BackboneSpec(
            "mobilenet_v3_large", 960, "classifier", "MobileNet_V3_Large_Weights.IMAGENET1K_V2"
        ),
        # He et al. 2016
        BackboneSpec("resnet18", 512, "fc", "ResNet18_Weights.IMAGENET1K_V1"),
        BackboneSpec("resnet34", 512, "fc", "ResNet34_Weights.IMAGENET1K_V1"),
        BackboneSpec("resnet50", 2048, "fc", "ResNet50_Weights.IMAGENET1K_V2"),
        BackboneSpec(
            "resnet50_v1", 2048, "fc", None,
            architecture="resnet50", adapt=stride_in_first_convolution,
        ),
        # Simonyan and Zisserman 2015
        BackboneSpec(
            "vgg16", 512, "classifier", "VGG16_Weights.IMAGENET1K_V1", adapt=average_the_maps
        ),
        # Tan and Le 2019
        BackboneSpec(
            "efficientnet_b0", 1280, "classifier", "EfficientNet_B0_Weights.IMAGENET1K_V1"
        ),
        # Liu et al. 2022; the classifier's LayerNorm belongs to the embedding
        BackboneSpec(
            "convnext_tiny", 768, "classifier.2", "ConvNeXt_Tiny_Weights.IMAGENET1K_V1"
        ),
    )
}
# fmt: on
