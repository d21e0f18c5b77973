from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.backbones import Backbone, load_backbone
from model.errors import ArgumentError, StorageError, WeightsError
from model.tuned import load_tuned, save_network, trainable_copy
from model.weights import file_digest

ROOT = Path(__file__).parents[2]
NAME = "mobilenet_v3_small"


class Numbers(torch.nn.Module):
    def __init__(self, **arrays: torch.Tensor) -> None:
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, array)


@pytest.fixture(scope="module")
def backbone(seeded_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    cache = tmp_path_factory.mktemp("cache")
    return load_backbone(NAME, input_size=64, weights_dir=seeded_weights, cache_dir=cache)


@pytest.fixture(scope="module")
def saved(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned network under a name that promises its SHA-256."""
    path = tmp_path_factory.mktemp("tuned") / "network.safetensors"
    digest = save_network(path, backbone.network)
    return path.rename(path.with_name(f"{NAME}-{digest[:8]}.safetensors"))


def trained(backbone: Backbone) -> torch.nn.Module:
    """The backbone's network after one step of training."""
    network = trainable_copy(backbone)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    network(images).square().mean().backward()
    optimiser.step()
    return network


def test_a_copy_trains_and_leaves_the_backbone_as_it_is(backbone: Backbone) -> None:
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    network = trained(backbone)
    after = network.state_dict()
    assert network.training
    assert all(p.grad is not None for p in network.parameters())
    assert not any(torch.equal(after[k], before[k]) for k in after if k.endswith("running_mean"))
    assert not backbone.network.training
    assert not any(p.requires_grad for p in backbone.network.parameters())
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_tuned_network_comes_back_as_it_was(backbone: Backbone, tmp_path: Path) -> None:
    network = trained(backbone)
    path = tmp_path / "new" / "network.safetensors"
    digest = save_network(path, network)
    assert digest == file_digest(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    loaded = load_tuned(path, NAME, 96, digest=digest)
    assert loaded.identity == f"{NAME}-{digest[:8]}-96px"
    assert (loaded.name, loaded.width, loaded.input_size) == (NAME, 576, 96)
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    wanted = network.state_dict()
    assert list(loaded.network.state_dict()) == list(wanted)
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, wanted[key])


def test_equal_networks_give_equal_files(backbone: Backbone, saved: Path, tmp_path: Path) -> None:
    shuffled = trainable_copy(backbone).to(memory_format=torch.channels_last).eval()
    assert save_network(tmp_path / "a.safetensors", shuffled) == file_digest(saved)
    assert save_network(tmp_path / "b.safetensors", trained(backbone)) != file_digest(saved)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.int64]),
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
        elements=st.integers(-2000, 2000),
    )
)
def test_any_numbers_are_stored_as_float32_or_left_whole(
    array: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "n.safetensors"
    tensor = torch.from_numpy(array.copy())
    save_network(
        path, Numbers(plain=tensor.clone(), turned=tensor.T if array.ndim == 2 else tensor)
    )
    kept = safetensors.torch.load_file(path)
    wanted = torch.int64 if array.dtype == np.int64 else torch.float32
    assert {value.dtype for value in kept.values()} == {wanted}
    np.testing.assert_array_equal(kept["plain"], array)
    np.testing.assert_array_equal(kept["turned"], array.T if array.ndim == 2 else array)


@pytest.mark.parametrize("ending", ["{digest}", "{start}", "{start}-64px"])
def test_the_files_name_promises_its_digest(saved: Path, tmp_path: Path, ending: str) -> None:
    digest = file_digest(saved)
    name = f"{NAME}-{ending.format(digest=digest, start=digest[:8])}.safetensors"
    path = tmp_path / name
    path.write_bytes(saved.read_bytes())
    assert load_tuned(path, NAME, 64).identity == f"{NAME}-{digest[:8]}-64px"


def test_a_file_without_a_promise_is_not_loaded(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(saved.read_bytes())
    with pytest.raises(ArgumentError, match=r"digest=None for network\.safetensors"):
        load_tuned(path, NAME, 64)
    for digest in ("", "abc", "not-hexadecimal"):
        with pytest.raises(ArgumentError, match=f"digest='{digest}'"):
            load_tuned(path, NAME, 64, digest=digest)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_cut_and_any_changed_byte_is_found(
    data: st.DataObject, saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = saved.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 20_000))
    bit = data.draw(st.sampled_from([0, 0x01, 0x20, 0x80]))
    changed = bytes([whole[position] ^ bit]) + whole[position + 1 :] if bit else b""
    path = tmp_path_factory.mktemp("damaged") / saved.name
    path.write_bytes(whole[:position] + changed)
    with pytest.raises(WeightsError, match=f"{saved.name} is damaged: its SHA-256 starts with"):
        load_tuned(path, NAME, 64)


def with_right_digest(path: Path, content: bytes) -> tuple[Path, str]:
    path.write_bytes(content)
    return path, file_digest(path)


@pytest.mark.parametrize("length", [0, 7, 8, 20, 5000, 100_000])
def test_a_cut_file_with_the_right_digest(saved: Path, tmp_path: Path, length: int) -> None:
    path, digest = with_right_digest(tmp_path / "n.safetensors", saved.read_bytes()[:length])
    with pytest.raises(WeightsError, match=r"n\.safetensors is damaged"):
        load_tuned(path, NAME, 64, digest=digest)


def test_a_pickle_with_the_right_digest(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "n.pth"
    torch.save(backbone.network.state_dict(), path)
    with pytest.raises(WeightsError, match=r"n\.pth is damaged"):
        load_tuned(path, NAME, 64, digest=file_digest(path))


def test_what_does_not_fit_the_backbone(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not fit resnet18: .*missing"):
        load_tuned(saved, "resnet18", 64)
    path = tmp_path / "n.safetensors"
    digest = save_network(path, Numbers(a=torch.zeros(2)))
    with pytest.raises(WeightsError, match=f"does not fit {NAME}: .*a unexpected"):
        load_tuned(path, NAME, 64, digest=digest)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"v-00000000\.safetensors cannot be read \(No such"):
        load_tuned(tmp_path / "v-00000000.safetensors", NAME, 64)


@pytest.mark.parametrize(("name", "size"), [("resnet7", 64), (NAME, 31), (NAME, 513)])
def test_bad_arguments(saved: Path, name: str, size: int) -> None:
    with pytest.raises(ArgumentError, match=f"name='{name}'" if size == 64 else str(size)):
        load_tuned(saved, name, size)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_training_that_diverged_is_not_kept(tmp_path: Path, number: float) -> None:
    path = tmp_path / "n.safetensors"
    with pytest.raises(ArgumentError, match="not finite, b first"):
        save_network(path, Numbers(a=torch.zeros(2), b=torch.tensor([0, number])))
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"n\.pth; a name that ends in \.safetensors"):
        save_network(tmp_path / "n.pth", Numbers(a=torch.zeros(2)))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        save_network(tmp_path / "file" / "n.safetensors", Numbers(a=torch.zeros(2)))


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_network(path, Numbers(a=torch.zeros(2)))
    digest = save_network(path, Numbers(a=torch.ones(2)))
    assert digest == file_digest(path)
    assert [file.name for file in tmp_path.iterdir()] == ["n.safetensors"]


WRITER = """
import itertools, sys
from pathlib import Path
import torch
from model.tuned import save_network
network = torch.nn.Linear(500, 500)
path = Path(sys.argv[1]) / "n.safetensors"
for i in itertools.count():
    network.bias.data.fill_(i)
    save_network(path, network)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT)
    path = tmp_path / "n.safetensors"
    try:
        deadline = time.monotonic() + 240
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    assert safetensors.torch.load_file(path)["weight"].shape == (500, 500)
    assert all(file.name.endswith(".partial") for file in tmp_path.iterdir() if file != path)
