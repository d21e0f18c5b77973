"""The exported model says what the server says, whatever runs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from backend.cli import app
from backend.engine import LocalEngine
from backend.errors import SetupError
from backend.export_model import export_served, output_names
from backend.flatten import to_rgb
from backend.label_config import parse_label_config
from backend.predictions import current_classes
from backend.settings import Settings
from backend.store import Store
from backend.tables import Project
from model.errors import PackageError, WeightsError
from model.head import Head
from model.pipeline import Pipeline
from tests.backend.exported_project import (
    CONFIG,
    SIDE,
    ExportedProject,
    by_example,
    faded,
    files_below,
    make_project,
    photos,
    pixels_of,
)
from tests.backend.served_app import settings_in

TOLERANCE = 1e-4
"""Of a probability, between runtimes that all count in float32."""
SERVED = 1e-3
"""The server keeps embeddings as float16, of which heads take the root."""

Answers = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, seeded_model: Callable[[str], torch.nn.Module]
) -> Iterator[tuple[ExportedProject, Path, dict[str, Any]]]:
    """A project, the folder of its model, and what the export said."""
    folder = tmp_path_factory.mktemp("exported")
    settings = settings_in(folder)
    store = Store(settings.database_address)
    store.migrate()
    project = make_project(settings, store, seeded_model)
    told: list[tuple[int, int]] = []
    found = export_served(
        store, settings, 1, folder / "out", lambda _, done, total: told.append((done, total))
    )
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    yield project, folder / "out", found
    store.close()


def _served(project: ExportedProject) -> Answers:
    """What ``/predict`` ticks by, for the photos."""
    engine = LocalEngine(project.settings)
    vectors = engine.embed(photos(), project.identity)
    controls = parse_label_config(CONFIG).controls
    return {c.name: current_classes(project.heads[c.name], c, vectors)[1] for c in controls}


def _by_onnxruntime(folder: Path, pixels: NDArray[np.uint8]) -> Answers:
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    outputs = [control["output"] for control in card["controls"]]
    found = session.run(outputs, {"images": pixels})
    return {c["name"]: values for c, values in zip(card["controls"], found, strict=True)}


def _by_openvino(folder: Path, pixels: NDArray[np.uint8]) -> Answers:
    compiled = openvino.Core().compile_model(
        folder / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled({"images": pixels})
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return {control["name"]: found[control["output"]] for control in card["controls"]}


def _largest_gap(one: Answers, other: Answers) -> float:
    assert one.keys() == other.keys()
    assert all(one[name].shape == other[name].shape for name in one)
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_every_runtime_says_what_the_server_says(
    exported: tuple[ExportedProject, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, folder, _ = exported
    # In 16 bits, as some CPUs and GPUs count, it says nearly the same; what is wanted is exactly.
    monkeypatch.setattr("model.torch_runtime.half_precision", lambda device: None)
    served = _served(project)
    pixels = pixels_of(photos())
    by_onnx, by_openvino = _by_onnxruntime(folder, pixels), _by_openvino(folder, pixels)
    # Probabilities that tell images and classes apart, or equality says nothing.
    assert all(values.std(axis=0).min() > 0.1 for values in served.values())
    assert _largest_gap(by_onnx, by_openvino) < TOLERANCE
    assert _largest_gap(by_onnx, served) < SERVED
    assert by_onnx["kind / sort"].sum(axis=1) == pytest.approx(np.ones(len(pixels)), abs=1e-5)


def test_one_image_and_many_give_the_same(
    exported: tuple[ExportedProject, Path, dict[str, Any]],
) -> None:
    _, folder, _ = exported
    pixels = pixels_of(photos())
    whole = _by_onnxruntime(folder, pixels)
    for i in range(3):
        for name, values in _by_onnxruntime(folder, pixels[i : i + 1]).items():
            assert values == pytest.approx(whole[name][i : i + 1], abs=TOLERANCE)


def test_the_safetensors_are_the_same_model(
    exported: tuple[ExportedProject, Path, dict[str, Any]],
    seeded_model: Callable[[str], torch.nn.Module],
) -> None:
    project, folder, _ = exported
    state = safetensors.torch.load_file(folder / "model.safetensors")
    head = project.heads["kind / sort"]
    # Without “fox”, the second class, which left the config.
    assert state["heads.0.weights"].numpy().tolist() == head.weights[:, [0, 2, 3]].tolist()
    network = seeded_model("resnet18")
    blank = {"kind": _blank(3, multiple=False), "tags": _blank(2, multiple=True)}
    rebuilt = torch.nn.Sequential(*list(network.children())[:-1], torch.nn.Flatten())
    pipeline = Pipeline(rebuilt, blank)
    own = {name: value for name, value in state.items() if not name.startswith("backbone.")}
    missing, unexpected = pipeline.load_state_dict(own, strict=False)
    assert not unexpected
    assert all(name.startswith("backbone.") for name in missing)
    names = {f"backbone.{name}" for name in network.state_dict() if not name.startswith("fc.")}
    assert {name for name in state if name.startswith("backbone.")} == names
    for name in names:
        assert torch.equal(state[name], network.state_dict()[name.removeprefix("backbone.")])
    pixels = pixels_of(photos())
    with torch.inference_mode():
        kind, tags = pipeline(torch.from_numpy(pixels))
    by_onnx = _by_onnxruntime(folder, pixels)
    assert np.abs(kind.numpy() - by_onnx["kind / sort"]).max() < TOLERANCE
    assert np.abs(tags.numpy() - by_onnx["tags"]).max() < TOLERANCE


def _blank(k: int, *, multiple: bool) -> Any:
    zeros = np.zeros(k, dtype=np.float32)
    ones = np.ones(k if multiple else 1, dtype=np.float32)
    return Head(
        tuple(map(str, range(k))), multiple, np.zeros((512, k), dtype=np.float32), zeros, ones
    )


@pytest.mark.parametrize("transparent", [False, True])
def test_the_example_runs_without_torch_and_tiebreak(
    exported: tuple[ExportedProject, Path, dict[str, Any]], tmp_path: Path, transparent: bool
) -> None:
    _, folder, _ = exported
    photo = faded(photos()[3]) if transparent else photos()[3]
    photo.save(tmp_path / "photo.png")
    assert len((folder / "example.py").read_text().splitlines()) <= 13
    lines = by_example(folder, tmp_path / "photo.png")
    whole = _by_onnxruntime(folder, pixels_of([to_rgb(photo)]))
    shown = dict(zip(("cat", "dog", "owl"), whole["kind / sort"][0], strict=True))
    assert lines[0].startswith("kind / sort {")
    said = json.loads(lines[0].removeprefix("kind / sort ").replace("'", '"'))
    assert said == pytest.approx(shown, abs=1e-3)
    assert lines[1].startswith("tags {'day': ")


def test_the_card_says_what_is_needed_to_use_it(
    exported: tuple[ExportedProject, Path, dict[str, Any]],
) -> None:
    project, folder, found = exported
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert found["card"]["controls"] == card["controls"]
    kind, tags = card["controls"]
    assert (kind["name"], kind["output"]) == ("kind / sort", "kind_sort_probabilities")
    assert (kind["classes"], kind["thresholds"]) == (["cat", "dog", "owl"], None)
    assert (tags["classes"], tags["multiple"]) == (["day", "night"], True)
    assert tags["thresholds"] == pytest.approx([0.3, 0.3])
    assert tags["temperature"] == pytest.approx([0.8, 1.4])
    assert card["input"]["shape"] == ["n", SIDE, SIDE, 3]
    assert card["backbone"]["identity"] == project.identity
    assert card["backbone"]["fine_tuned"] is True
    assert card["labels_sha256"] == hashlib.sha256(b"labels").hexdigest()
    assert card["metrics"]["measures"]["kind / sort"]["held_out"]["accuracy"]["low"] == 0.833
    for name, digest in card["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Cats \\*and\\* dogs v3\n")
    assert "0.900 (0.833 to 0.942), n = 120" in text
    assert "| 1 | night | 0.300 |" in text


def test_the_folder_has_these_files(
    exported: tuple[ExportedProject, Path, dict[str, Any]],
) -> None:
    _, folder, _ = exported
    assert files_below(folder) == [
        "README.md",
        "card.json",
        "example.py",
        "export.json",
        "model.onnx",
        "model.safetensors",
        "openvino/model.bin",
        "openvino/model.xml",
    ]
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)


def test_without_onnx_it_says_how_to_get_it(
    exported: tuple[ExportedProject, Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project, _, _ = exported
    monkeypatch.setattr(
        "model.exchange.find_spec", lambda name: None if name == "onnxscript" else name
    )
    with pytest.raises(PackageError, match=r"onnxscript.*-m pip install onnxscript$"):
        export_served(project.store, project.settings, 1, tmp_path / "out", _nothing)
    assert not (tmp_path / "out").exists()


def test_the_original_network_must_be_the_one_that_was_learned_on(
    settings: Settings,
    store: Store,
    three: object,
    seeded_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    weights = tmp_path / "weights"
    weights.mkdir()
    data = (seeded_weights / "mobilenet_v3_small.pth").read_bytes()
    (weights / "mobilenet_v2.pth").write_bytes(data)
    changed = settings.model_copy(update={"weights_dir": weights})
    with pytest.raises(WeightsError, match="mobilenet_v2"):
        export_served(store, changed, 1, tmp_path / "out", _nothing)


def test_before_anything_is_learned_it_says_so(
    tables: object, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBREAK_DATA_DIR", str(settings.data_dir))
    result = CliRunner().invoke(
        app, ["export", "1", "--model", "--to", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 1
    assert "nothing is learned yet" in json.loads(result.stdout)["error"]


def test_heads_that_the_config_does_not_ask_for_are_no_model(
    settings: Settings, store: Store, three: object, tmp_path: Path
) -> None:
    with store.write() as session:
        session.get_one(Project, 1).label_config = CONFIG
    with pytest.raises(SetupError, match="nothing that the labelling config asks for"):
        export_served(store, settings, 1, tmp_path / "out", _nothing)


def test_outputs_have_names_of_their_own() -> None:
    assert output_names(["label", "a/b", "a b", "猫"]) == {
        "label": "label_probabilities",
        "a/b": "a_b_probabilities",
        "a b": "a_b_2_probabilities",
        "猫": "control_probabilities",
    }


def _nothing(what: str, done: int, total: int) -> None:
    """Tell nobody."""
