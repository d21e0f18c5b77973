from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from model.backbones import BACKBONES, build_network, load_backbone, read_state_dict
from model.errors import ArgumentError, WeightsError
from model.weights import file_digest

MakeModel = Callable[[str], torch.nn.Module]
WIDTHS = {
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 576,
    "mobilenet_v3_large": 960,
    "resnet18": 512,
    "resnet50": 2048,
}


def classifier_input(model: torch.nn.Module, head: str, images: torch.Tensor) -> torch.Tensor:
    """What torchvision's own forward pass hands to its classifier."""
    seen = []
    hook = getattr(model, head).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        model(images)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("name", WIDTHS)
def test_network_gives_what_torchvision_hands_to_its_classifier(
    name: str, seeded_model: MakeModel
) -> None:
    spec, model = BACKBONES[name], seeded_model(name)
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    network = build_network(spec, model.state_dict(), source="here")
    with torch.inference_mode():
        embeddings = network(images)
    assert embeddings.shape == (2, WIDTHS[name]) == (2, spec.width)
    torch.testing.assert_close(embeddings, classifier_input(model, spec.head, images))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("mobilenet_v2", "mobilenet_v2-b0353104.pth"),
        ("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"),
        ("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth"),
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet50", "resnet50-11ad3fa6.pth"),
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


@pytest.mark.parametrize("name", ["", "vgg16", "MobileNet_V2"])
def test_unknown_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"name='{name}'; one of mobilenet_v2,"):
        load_backbone(name, cache_dir=tmp_path)


@pytest.mark.parametrize("input_size", [0, 31, 513])
def test_input_size_out_of_range(input_size: int, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"input_size={input_size}; 32 to 512"):
        load_backbone("mobilenet_v2", input_size=input_size, cache_dir=tmp_path)
