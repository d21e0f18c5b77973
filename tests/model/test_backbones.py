from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image

from model.backbones import (
    BACKBONES,
    FROM_SCRATCH,
    Backbone,
    build_network,
    default_input_size,
    load_backbone,
    read_state_dict,
)
from model.embed import Embedder
from model.errors import ArgumentError, WeightsError
from model.weights import file_digest

MakeModel = Callable[[str], torch.nn.Module]


def pooled(features: torch.Tensor) -> torch.Tensor:
    return features.mean(dim=(2, 3))


def hidden_layer_left_out(model: Any, images: torch.Tensor) -> torch.Tensor:
    return pooled(model.features(images))


def resnet(model: Any, images: torch.Tensor) -> torch.Tensor:
    stem = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    return pooled(model.layer4(model.layer3(model.layer2(model.layer1(stem)))))


def resnet_v1(model: Any, images: torch.Tensor) -> torch.Tensor:
    """ResNet-50 as He et al. have it, from the numbers of torchvision's alone."""
    maps = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    for number, layer in enumerate((model.layer1, model.layer2, model.layer3, model.layer4)):
        for position, block in enumerate(layer):
            stride = 2 if number > 0 and position == 0 else 1
            new = F.relu(block.bn1(F.conv2d(maps, block.conv1.weight, stride=stride)))
            new = F.relu(block.bn2(F.conv2d(new, block.conv2.weight, padding=1)))
            new = block.bn3(F.conv2d(new, block.conv3.weight))
            if position == 0:
                maps = block.downsample[1](F.conv2d(maps, block.downsample[0].weight, None, stride))
            maps = F.relu(maps + new)
    return pooled(maps)


def convnext(model: Any, images: torch.Tensor) -> torch.Tensor:
    averages = pooled(model.features(images))
    norm = model.classifier[0]
    return F.layer_norm(averages, (768,), norm.weight, norm.bias, norm.eps)


# name -> width, the embedding from torchvision's whole network, the network that has the weights
EMBEDDINGS: dict[str, tuple[int, Callable[[Any, torch.Tensor], torch.Tensor]]] = {
    "mobilenet_v2": (1280, hidden_layer_left_out),
    "mobilenet_v3_small": (576, hidden_layer_left_out),
    "mobilenet_v3_large": (960, hidden_layer_left_out),
    "resnet18": (512, resnet),
    "resnet34": (512, resnet),
    "resnet50": (2048, resnet),
    "resnet50_v1": (2048, resnet_v1),
    "vgg16": (512, hidden_layer_left_out),
    "efficientnet_b0": (1280, hidden_layer_left_out),
    "convnext_tiny": (768, convnext),
}
HANDED_TO_CLASSIFIER = sorted(set(EMBEDDINGS) - {"vgg16", "resnet50_v1"})


def torchvisions(name: str) -> str:
    return name.removesuffix("_v1")


def seeded_images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_every_backbone_is_tested() -> None:
    assert set(EMBEDDINGS) == set(BACKBONES)


@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("side", [32, 40])
def test_embedding_computed_by_hand(name: str, side: int, seeded_model: MakeModel) -> None:
    spec, model, images = BACKBONES[name], seeded_model(torchvisions(name)), seeded_images(side)
    width, by_hand = EMBEDDINGS[name]
    network = build_network(spec, model.state_dict(), source="here")
    with torch.inference_mode():
        embeddings, wanted = network(images), by_hand(model, images)
    assert embeddings.shape == (2, width) == (2, spec.width)
    assert float(wanted.std()) > 1e-3
    torch.testing.assert_close(embeddings, wanted, rtol=1e-4, atol=1e-5)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("name", HANDED_TO_CLASSIFIER)
def test_embedding_is_what_torchvision_hands_to_its_classifier(
    name: str, seeded_model: MakeModel
) -> None:
    spec, model, images = BACKBONES[name], seeded_model(name), seeded_images(40)
    seen: list[torch.Tensor] = []
    classifier = model.get_submodule(spec.head)
    hook = classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model(images)
        embeddings = build_network(spec, model.state_dict(), source="here")(images)
    hook.remove()
    torch.testing.assert_close(embeddings, seen[0])


def test_moved_strides_change_the_embedding(seeded_model: MakeModel) -> None:
    state, images = seeded_model("resnet50").state_dict(), seeded_images(64)
    with torch.inference_mode():
        first, second = (
            build_network(BACKBONES[name], state, source="here")(images)
            for name in ("resnet50", "resnet50_v1")
        )
    assert float((first - second).abs().max()) > 0.01


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embedder_gives_the_same_to_its_rounding(name: str, seeded_model: MakeModel) -> None:
    state = seeded_model(torchvisions(name)).state_dict()
    network = build_network(BACKBONES[name], state, source="here")
    coarse = np.random.default_rng(3).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels).resize((64, 64)) for pixels in coarse]
    scaled = np.stack([np.asarray(image) for image in images]) / 255
    inputs = (scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        wanted = network(torch.tensor(inputs).permute(0, 3, 1, 2).float()).numpy()
    width = BACKBONES[name].width
    embedder = Embedder(Backbone(name, f"{name}-0-64px", width, 64, network), device="cpu")
    given = embedder.embed(images).astype(np.float32)
    assert given.shape == (3, width)
    similar = unit(given) @ unit(wanted).T
    # Random networks blow up the rounding of 16 bits; trained ones stay above 0.99.
    assert (similar.diagonal() > 0.8).all()
    assert similar.argmax(axis=1).tolist() == [0, 1, 2]


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("mobilenet_v2", "mobilenet_v2-b0353104.pth"),
        ("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
        ("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth"),
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-11ad3fa6.pth"),
        ("vgg16", "vgg16-397923af.pth"),
        ("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth"),
        ("convnext_tiny", "convnext_tiny-983f1562.pth"),
    ],
)
def test_pretrained_file_is_torchvisions(name: str, file_name: str) -> None:
    pretrained = BACKBONES[name].pretrained
    assert pretrained.file_name == file_name
    assert pretrained.digest_start == file_name[-12:-4]


def test_identity_names_weights_and_input_size(seeded_weights: Path, tmp_path: Path) -> None:
    backbone = load_backbone(
        "mobilenet_v3_small", input_size=64, weights_dir=seeded_weights, cache_dir=tmp_path
    )
    digest = file_digest(seeded_weights / "mobilenet_v3_small.pth")
    assert backbone.identity == f"mobilenet_v3_small-{digest[:8]}-64px"
    assert (backbone.name, backbone.width, backbone.input_size) == ("mobilenet_v3_small", 576, 64)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_safetensors_without_classifier(
    seeded_model: MakeModel, tmp_path: Path
) -> None:
    state = {
        key: value.half() if value.ndim == 4 else value
        for key, value in seeded_model("mobilenet_v3_small").state_dict().items()
        if not key.startswith("classifier.") and not key.endswith(".num_batches_tracked")
    }
    safetensors.torch.save_file(state, tmp_path / "mobilenet_v3_small.safetensors")
    backbone = load_backbone("mobilenet_v3_small", weights_dir=tmp_path, cache_dir=tmp_path)
    loaded = backbone.network.state_dict()
    for key, value in state.items():
        assert loaded[key].dtype == torch.float32
        torch.testing.assert_close(loaded[key], value.float(), rtol=0, atol=0)


def test_counts_of_batches_may_be_vectors_of_one(seeded_model: MakeModel) -> None:
    state = seeded_model("mobilenet_v3_small").state_dict()
    key = "features.0.1.num_batches_tracked"
    spec = BACKBONES["mobilenet_v3_small"]
    network = build_network(spec, {**state, key: torch.tensor([5])}, source="here")
    assert torch.equal(network.state_dict()[key], torch.tensor(5))
    with pytest.raises(WeightsError, match=f"{key} of another shape"):
        build_network(spec, {**state, key: torch.tensor([5, 5])}, source="here")


def test_loading_leaves_the_global_generator_alone(seeded_weights: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    load_backbone("mobilenet_v3_small", weights_dir=seeded_weights, cache_dir=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def changed(state: dict[str, torch.Tensor], what: str) -> dict[str, torch.Tensor]:
    key = "features.0.0.weight"
    if what == "missing":
        return {k: v for k, v in state.items() if k != key}
    if what == "unexpected":
        return {**state, "features.99.weight": torch.zeros(1)}
    if what == "of another shape":
        return {**state, key: torch.zeros(2, 2)}
    return {**state, key: torch.full_like(state[key], torch.nan)}


@pytest.mark.parametrize("what", ["missing", "unexpected", "of another shape", "not finite"])
def test_every_misfit_outside_the_classifier_is_named(seeded_model: MakeModel, what: str) -> None:
    state = changed(seeded_model("mobilenet_v3_small").state_dict(), what)
    key = "features.99.weight" if what == "unexpected" else "features.0.0.weight"
    with pytest.raises(WeightsError, match=f"here does not fit .*: {key} {what}"):
        build_network(BACKBONES["mobilenet_v3_small"], state, source="here")


def test_weights_of_another_backbone_are_refused(seeded_weights: Path) -> None:
    state = read_state_dict(seeded_weights / "mobilenet_v3_small.pth")
    with pytest.raises(WeightsError, match=r"missing.*unexpected"):
        build_network(BACKBONES["resnet18"], state, source="here")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_cut_file_is_an_error_that_names_it(
    seeded_model: MakeModel, tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"mobilenet_v3_small.{suffix}"
    save = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(seeded_model("mobilenet_v3_small").state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=r"mobilenet_v3_small\.\w+ cannot be read"):
        load_backbone("mobilenet_v3_small", weights_dir=tmp_path, cache_dir=tmp_path)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_nothing_of_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": Trap()}, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state_dict(tmp_path / "resnet18.pth")
    assert capsys.readouterr().out == ""


def test_file_with_other_things_than_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match="other than named tensors"):
        read_state_dict(tmp_path / "resnet18.pth")


@pytest.mark.parametrize("name", ["", "vgg11", "MobileNet_V2"])
def test_unknown_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"name='{name}'; one of mobilenet_v2,"):
        load_backbone(name, cache_dir=tmp_path)


@pytest.mark.parametrize("input_size", [0, 31, 513])
def test_input_size_out_of_range(input_size: int, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"input_size={input_size}; 32 to 512"):
        load_backbone("mobilenet_v2", input_size=input_size, cache_dir=tmp_path)


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_networks_from_scratch_have_no_weights_to_load(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"name='{name}' has no pretrained weights: it trains"):
        load_backbone(name, cache_dir=tmp_path)


def test_weights_that_nobody_offers_must_be_ones_own(
    seeded_model: MakeModel, tmp_path: Path
) -> None:
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    with pytest.raises(WeightsError, match="resnet50_v1 has no weights to download") as caught:
        load_backbone("resnet50_v1", weights_dir=given, cache_dir=cache)
    assert "Put resnet50_v1.safetensors or resnet50_v1.pth into a folder" in caught.value.mend
    assert "TIEBREAK_WEIGHTS_DIR" in caught.value.mend
    path = given / "resnet50_v1.safetensors"
    safetensors.torch.save_file(seeded_model("resnet50").state_dict(), path)
    backbone = load_backbone("resnet50_v1", weights_dir=given, cache_dir=cache)
    assert backbone.identity == f"resnet50_v1-{file_digest(path)[:8]}-224px"
    assert backbone.network.get_submodule("layer3.0.conv1").stride == (2, 2)
    assert backbone.network.get_submodule("layer3.0.conv2").stride == (1, 1)


@pytest.mark.parametrize(
    ("shorter_side", "size"),
    [(1, 160), (8, 160), (32, 160), (160, 160), (161, 192), (192, 192), (193, 224), (4000, 224)],
)
def test_default_input_size(shorter_side: int, size: int) -> None:
    assert default_input_size(shorter_side) == size


@pytest.mark.parametrize("shorter_side", [0, -1])
def test_default_input_size_of_no_image(shorter_side: int) -> None:
    with pytest.raises(ArgumentError, match=f"shorter_side={shorter_side}; 1 or more"):
        default_input_size(shorter_side)
