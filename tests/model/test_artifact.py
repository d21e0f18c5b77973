from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.artifact import Artifact, load_artifact, save_artifact
from model.errors import ArgumentError, ArtifactError, StorageError
from model.head import Head

ROOT = Path(__file__).parents[2]


def head(classes: tuple[str, ...] = ("cat", "dog"), *, multiple: bool = False, d: int = 3) -> Head:
    k = len(classes)
    numbers = np.random.default_rng(d * 10 + k)
    return Head(
        classes=classes,
        multiple=multiple,
        weights=numbers.normal(size=(d, k)).astype(np.float32),
        bias=numbers.normal(size=k).astype(np.float32),
        temperature=np.full(k if multiple else 1, 1.5, dtype=np.float32),
    )


def artifact(**changes: object) -> Artifact:
    fields: dict[str, object] = {
        "version": 3,
        "backbone": "mobilenet_v2-b0353104-224px",
        "heads": {"label": head()},
        "manifest": {"seed": 0},
    }
    return Artifact(**{**fields, **changes})  # type: ignore[arg-type]


def assert_same(loaded: Artifact, saved: Artifact) -> None:
    assert (loaded.version, loaded.backbone) == (saved.version, saved.backbone)
    assert loaded.manifest == saved.manifest
    assert list(loaded.heads) == list(saved.heads)
    for name, wanted in saved.heads.items():
        given = loaded.heads[name]
        assert (given.classes, given.multiple) == (wanted.classes, wanted.multiple)
        for key, array in wanted.to_arrays().items():
            assert given.to_arrays()[key].dtype == array.dtype == np.float32
            assert given.to_arrays()[key].tobytes() == np.ascontiguousarray(array).tobytes()


names = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def heads(draw: st.DrawFn, d: int) -> Head:
    classes = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    multiple = draw(st.booleans())
    k = len(classes)

    def numbers(*shape: int, low: float = -(2.0**100)) -> np.ndarray:
        values = st.floats(low, 2.0**100, width=32)
        return draw(hnp.arrays(np.float32, shape, elements=values))

    temperature = numbers(k if multiple else 1, low=2.0**-10)
    thresholds = None
    if multiple:
        unit = st.floats(0, 1, width=32, exclude_min=True)
        thresholds = draw(st.none() | hnp.arrays(np.float32, k, elements=unit))
    return Head(classes, multiple, numbers(d, k), numbers(k), temperature, thresholds)


@st.composite
def artifacts(draw: st.DrawFn) -> Artifact:
    d = draw(st.integers(1, 3))
    return Artifact(
        version=draw(st.integers(0, 10**9)),
        backbone=draw(names),
        heads=draw(st.dictionaries(names, heads(d), max_size=3)),
        manifest=draw(st.dictionaries(names, json_values, max_size=4)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(saved=artifacts())
def test_round_trip(saved: Artifact, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("round-trip") / "v1"
    save_artifact(folder, saved)
    assert_same(load_artifact(folder), saved)
    assert sorted(path.name for path in folder.iterdir()) == ["heads.safetensors", "model.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["v1"]


@pytest.mark.parametrize("control", ["../../etc/passwd", "a/b", "", "ключ.weights", "\0\u2028🐈"])
def test_any_control_name(control: str, tmp_path: Path) -> None:
    saved = artifact(heads={control: head(), "0": head(("x", "y", "z"), multiple=True)})
    save_artifact(tmp_path / "v1", saved)
    assert_same(load_artifact(tmp_path / "v1"), saved)


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3).T
    turned = Head(("a", "b"), False, weights, np.zeros(2, np.float32), np.ones(1, np.float32))
    save_artifact(tmp_path / "v1", artifact(heads={"label": turned}))
    np.testing.assert_array_equal(load_artifact(tmp_path / "v1").heads["label"].weights, weights)


def test_tuples_are_read_back_as_lists(tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact(manifest={"classes": ("a", "b")}))
    assert load_artifact(tmp_path / "v1").manifest == {"classes": ["a", "b"]}


def every_change(data: bytes) -> list[bytes]:
    cuts = [data[:length] for length in range(len(data))]
    flips = [
        data[:i] + bytes([data[i] ^ bit]) + data[i + 1 :]
        for i in range(len(data))
        for bit in (0x01, 0x20)
    ]
    return [*cuts, *flips, data + b"\n", data + data]


@pytest.mark.parametrize("name", ["heads.safetensors", "model.json"])
def test_every_cut_and_every_changed_byte_is_found(name: str, tmp_path: Path) -> None:
    tiny = Head(("a", "b"), False, *(np.ones(s, np.float32) for s in ((1, 2), (2,), (1,))))
    save_artifact(tmp_path / "v1", artifact(heads={"c": tiny}, manifest={"s": "é", "x": 0.5}))
    path = tmp_path / "v1" / name
    whole = path.read_bytes()
    for data in every_change(whole):
        path.write_bytes(data)
        with pytest.raises(ArtifactError):
            load_artifact(tmp_path / "v1")
    path.write_bytes(whole)
    assert load_artifact(tmp_path / "v1").manifest == {"s": "é", "x": 0.5}


@pytest.mark.parametrize("name", ["heads.safetensors", "model.json"])
def test_missing_file_is_named(name: str, tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    (tmp_path / "v1" / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_artifact(tmp_path / "v1")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"v9/model\.json cannot be read \(No such file"):
        load_artifact(tmp_path / "v9")


def rewrite(folder: Path, arrays: dict[str, np.ndarray], **changes: object) -> None:
    """Change a stored version and set its checksums right, as a hostile or buggy writer could."""
    tensors = safetensors.numpy.save(arrays)
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    content.pop("sha256")
    content["tensors"] = {"sha256": hashlib.sha256(tensors).hexdigest(), "size": len(tensors)}
    content.update(changes)

    def rendered() -> bytes:
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
        return text.encode() + b"\n"

    content["sha256"] = hashlib.sha256(rendered()).hexdigest()
    (folder / "model.json").write_bytes(rendered())
    (folder / "heads.safetensors").write_bytes(tensors)


def stored_arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    arrays = {**head().to_arrays(), **changes}
    return {f"0.{key}": array for key, array in arrays.items() if array is not None}


def test_rewriting_without_a_change_is_fine(tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    rewrite(tmp_path / "v1", stored_arrays())
    assert_same(load_artifact(tmp_path / "v1"), artifact())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": np.zeros((3, 3), np.float32)}, "weights"),
        ({"weights": np.zeros(6, np.float32)}, "weights"),
        ({"bias": np.zeros((2, 1), np.float32)}, "bias"),
        ({"bias": None}, "no bias"),
        ({"temperature": np.ones(2, np.float32)}, "temperature"),
        ({"thresholds": np.ones(2, np.float32)}, "thresholds"),
        ({"weights": np.zeros((3, 2), np.float64)}, "float64, float32 is needed"),
        ({"bias": np.zeros(2, np.int32)}, "int32, float32 is needed"),
        ({"bias": np.array([0, np.nan], np.float32)}, "not finite"),
    ],
)
def test_wrong_arrays_with_right_checksums(
    changes: dict[str, np.ndarray | None], reason: str, tmp_path: Path
) -> None:
    save_artifact(tmp_path / "v1", artifact())
    rewrite(tmp_path / "v1", stored_arrays(**changes))
    with pytest.raises(ArtifactError, match=reason):
        load_artifact(tmp_path / "v1")


def test_a_version_stored_without_thresholds_is_read(tmp_path: Path) -> None:
    several = head(("a", "b", "c"), multiple=True)
    save_artifact(tmp_path / "v1", artifact(heads={"tags": several}))
    stored = several.to_arrays()
    del stored["thresholds"]
    rewrite(tmp_path / "v1", {f"0.{key}": array for key, array in stored.items()})
    loaded = load_artifact(tmp_path / "v1").heads["tags"]
    assert loaded.to_arrays()["thresholds"].tolist() == [0.5] * 3
    np.testing.assert_array_equal(loaded.weights, several.weights)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_unknown_format(number: object, tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    rewrite(tmp_path / "v1", stored_arrays(), format=number)
    with pytest.raises(ArtifactError, match="format that this program does not know"):
        load_artifact(tmp_path / "v1")


@pytest.mark.parametrize("changes", [{"version": "3"}, {"heads": {}}, {"extra": 1}])
def test_wrong_fields_with_right_checksums(changes: dict[str, object], tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    rewrite(tmp_path / "v1", stored_arrays(), **changes)
    with pytest.raises(ArtifactError, match=r"model\.json is damaged"):
        load_artifact(tmp_path / "v1")


def test_saving_again_is_fine_when_it_is_the_same(tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    before = (tmp_path / "v1" / "model.json").stat().st_mtime_ns
    save_artifact(tmp_path / "v1", artifact())
    assert (tmp_path / "v1" / "model.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


@pytest.mark.parametrize("changes", [{"version": 4}, {"heads": {"label": head(d=4)}}])
def test_an_existing_version_is_never_replaced(changes: dict[str, object], tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    with pytest.raises(ArtifactError, match="exists and holds something else"):
        save_artifact(tmp_path / "v1", artifact(**changes))
    assert_same(load_artifact(tmp_path / "v1"), artifact())


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("")
    with pytest.raises(StorageError, match="Version 3 cannot be written"):
        save_artifact(tmp_path / "versions" / "v1", artifact())


@pytest.mark.parametrize(
    "manifest",
    [
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": np.float32(1)},
        {"x": {1, 2}},
        {"x": {1: "a", "1": "b"}},
        {"x": "\ud83d"},
    ],
)
def test_manifest_that_json_cannot_hold(manifest: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="artifact cannot be stored as JSON"):
        save_artifact(tmp_path / "v1", artifact(manifest=manifest))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [-1, "1", True, 1.5])
def test_version_that_is_not_a_number(version: object, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="version"):
        save_artifact(tmp_path / "v1", artifact(version=version))


def test_heads_of_different_widths(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"different widths: \[3, 4\]"):
        save_artifact(tmp_path / "v1", artifact(heads={"a": head(d=3), "b": head(d=4)}))


def test_many_writers_of_one_version(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def write() -> None:
        try:
            save_artifact(tmp_path / "v1", artifact())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_same(load_artifact(tmp_path / "v1"), artifact())
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


WRITER = """
import itertools, sys
from pathlib import Path
import numpy as np
from model.artifact import Artifact, save_artifact
from model.head import Head
head = Head(("a", "b"), False, np.ones((2000, 2), np.float32), np.ones(2, np.float32),
            np.ones(1, np.float32))
for i in itertools.count():
    save_artifact(Path(sys.argv[1]) / f"v{i}", Artifact(i, "b", {"label": head}, {}))
"""


def test_killed_writer_leaves_whole_versions_only(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "v5").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    versions = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(versions) >= 6
    for path in versions:
        assert load_artifact(path).version == int(path.name[1:])


def test_loading_needs_no_torch(tmp_path: Path) -> None:
    save_artifact(tmp_path / "v1", artifact())
    code = (
        "import sys; from pathlib import Path; from model.artifact import load_artifact; "
        "load_artifact(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "v1")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
