"""Pretrained networks: normalised images in, one embedding per image out.

The networks are torchvision's, without their classifiers; parameter names stay torchvision's. An
embedding is what the classifier reads, the last feature maps averaged over the picture, except
VGG-16's (see :func:`average_the_maps`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torchvision

from model.errors import ArgumentError, WeightsError
from model.weights import PretrainedFile, file_digest, find_weights

SMALLEST_INPUT, LARGEST_INPUT = 32, 512
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


def build_network(
    spec: BackboneSpec, state: Mapping[str, torch.Tensor], *, source: str
) -> torch.nn.Module:
    """The network of ``spec`` with the weights ``state``, whose classifier is left out.

    Floating-point weights become float32. :class:`WeightsError` names ``source`` and the keys
    that are missing, unexpected, of another shape or not finite.
    """
    # Built without memory, so that a weight that is not loaded cannot be a random one.
    with torch.device("meta"):
        network = spec.build()
    kept = {key: value for key, value in state.items() if not key.startswith(f"{spec.head}.")}
    problems = _problems(network.state_dict(), kept)
    if problems:
        raise WeightsError(
            f"{source} does not fit {spec.name}: {'; '.join(problems)}.",
            mend=f"Use a state dict of torchvision's {spec.architecture or spec.name}.",
        )
    floats = {
        key: value.float() if value.is_floating_point() else value for key, value in kept.items()
    }
    network.load_state_dict(floats, strict=False, assign=True)
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


def _problems(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    # The count of batches matters in training only, and older files have none.
    needed = {key for key in wanted if not key.endswith(".num_batches_tracked")}
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
