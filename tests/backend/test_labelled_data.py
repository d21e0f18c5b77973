"""Labelled images come from folders and arrays; bad ones are told apart and say what is wrong."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from backend.errors import DataError
from backend.labelled_data import LabelledData, draw
from backend.read_data import read_labelled_data

COLOURS = {"blue": (10, 20, 200), "green": (20, 200, 30), "red": (220, 30, 20)}


def read(path: Path, seed: int = 0, side: int = 64) -> LabelledData:
    return read_labelled_data(path, seed=seed, side=side, max_pixels=10_000_000)


def class_folders(root: Path, per_class: int = 5) -> Path:
    for name, colour in COLOURS.items():
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", (40 + i, 30), colour).save(folder / f"{i}.png")
    return root


def arrays(**changes: Any) -> dict[str, NDArray[Any]]:
    """A good file's arrays; None removes one."""
    y = np.repeat(np.arange(3, dtype=np.uint8), 4)
    made: dict[str, Any] = {
        "X_train": np.arange(12 * 8 * 6 * 3, dtype=np.uint8).reshape(12, 8, 6, 3),
        "y_train": y,
        "X_test": np.zeros((6, 8, 6, 3), dtype=np.uint8),
        "y_test": y[::2],
        "class_names": np.array(["ant", "bee", "cat"]),
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def saved(path: Path, **changes: Any) -> Path:
    np.savez_compressed(path / "data.npz", **arrays(**changes))  # type: ignore[arg-type]
    return path / "data.npz"


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    data = read(class_folders(tmp_path / "pets"))
    assert (data.name, data.classes, data.held_out) == ("pets", ("blue", "green", "red"), True)
    assert np.bincount(data.train.targets).tolist() == [4, 4, 4]
    assert np.bincount(data.test.targets).tolist() == [1, 1, 1]
    for part in (data.train, data.test):
        for i, target in enumerate(part.targets):
            assert part.load(i).getpixel((0, 0)) == COLOURS[data.classes[target]]


def test_the_seed_decides_what_is_held_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pets", per_class=20)
    held = [read(root, seed).test.rows.tolist() for seed in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


@pytest.mark.parametrize("second", ["test", "val"])
def test_a_folder_with_a_test_part(tmp_path: Path, second: str) -> None:
    class_folders(tmp_path / "Train", per_class=3)
    class_folders(tmp_path / second, per_class=2)
    data = read(tmp_path)
    assert not data.held_out
    assert np.bincount(data.train.targets).tolist() == [3, 3, 3]
    assert np.bincount(data.test.targets).tolist() == [2, 2, 2]


def test_other_files_are_no_images(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pets")
    (root / "red" / "Thumbs.db").write_bytes(b"x")
    (root / "red" / ".hidden.png").write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / "red" / "more").mkdir()
    Image.new("L", (9, 9)).save(root / "red" / "more" / "deep.JPG")
    data = read(root)
    assert len(data.train) + len(data.test) == 16


def test_broken_images_are_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pets")
    whole = (root / "red" / "0.png").read_bytes()
    (root / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "green" / "empty.jpg").write_bytes(b"")
    (root / "blue" / "page.gif").write_text("<html></html>")
    told: list[tuple[int, int]] = []
    drawn = draw(read(root), seed=0, on_progress=lambda done, total: told.append((done, total)))
    assert len(drawn.train) + len(drawn.test) == 15
    assert {Path(name).name for name, _ in drawn.left_out} == {"cut.png", "empty.jpg", "page.gif"}
    assert {Path(n).name: why for n, why in drawn.left_out}["empty.jpg"] == ("The file is empty.")
    assert told == [(i + 1, 18) for i in range(18)]
    for part in (drawn.train, drawn.test):
        for i in range(len(part)):
            part.load(i)


def test_files_are_reduced_as_working_copies_are(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (400, 200)).save(tmp_path / name / f"{i}.png")
    drawn = draw(read(tmp_path, side=50), seed=0)
    assert drawn.train.load(0).size == (100, 50)
    assert drawn.shorter_side == 50


def test_a_digest_tells_data_apart(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pets")
    first = read(root).digest
    assert read(root, seed=3).digest == first
    Image.new("RGB", (7, 7)).save(root / "red" / "new.png")
    assert read(root).digest != first
    npz = read(saved(tmp_path)).digest
    assert read(saved(tmp_path, y_test=np.zeros(6, dtype=np.int64))).digest != npz


def test_an_array_file(tmp_path: Path) -> None:
    data = read(saved(tmp_path))
    assert (data.name, data.classes, data.held_out) == ("data.npz", ("ant", "bee", "cat"), False)
    assert data.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert (np.asarray(data.train.load(5)) == arrays()["X_train"][5]).all()
    assert draw(data, seed=0).shorter_side == 6


def test_an_array_file_without_a_test_part_and_names(tmp_path: Path) -> None:
    changes = dict.fromkeys(("X_test", "y_test", "class_names"))
    labels = np.repeat([-3, 7, 100], 4)
    data = read(saved(tmp_path, y_train=labels, **changes))
    assert data.classes == ("-3", "7", "100")
    assert data.held_out
    assert np.bincount(data.train.targets).tolist() == [3, 3, 3]


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_channels(tmp_path: Path, channels: tuple[int, ...]) -> None:
    pixels = np.full((12, 8, 6, *channels), 100, dtype=np.uint8)
    if channels == (4,):
        pixels[..., 3] = 0
    image = read(saved(tmp_path, X_train=pixels)).train.load(0)
    assert (image.mode, image.size) == ("RGB", (6, 8))
    assert image.getpixel((0, 0)) == ((255,) * 3 if channels == (4,) else (100,) * 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"X_train": None}, "has no X_train; it holds X_test, class_names, y_test, y_train"),
        ({"X_train": None, "y_train": None}, "has no X_train, y_train"),
        ({"y_test": None}, "only one of X_test and y_test"),
        ({"X_train": np.zeros((12, 5), np.uint8)}, r"X_train has shape \(12, 5\)"),
        ({"X_train": np.zeros((12, 8, 6, 2), np.uint8)}, r"X_train has shape \(12, 8, 6, 2\)"),
        ({"X_test": np.zeros((0, 8, 6, 3), np.uint8)}, r"X_test has shape \(0, 8, 6, 3\)"),
        ({"X_train": np.zeros((12, 8, 6, 3))}, "X_train has dtype float64; uint8"),
        ({"y_train": np.zeros(11, np.int64)}, r"y_train has shape \(11,\); \(12,\) is needed"),
        ({"y_train": np.zeros((12, 1), np.int64)}, r"y_train has shape \(12, 1\)"),
        ({"y_train": np.zeros(12)}, "y_train has dtype float64; whole numbers"),
        ({"y_train": np.full(12, 3)}, "y_train holds 3; the classes are 0 to 2"),
        ({"y_test": np.full(6, -1)}, "y_test holds -1; the classes are 0 to 2"),
        (
            {"y_test": np.full(6, 9), "class_names": None},
            "y_test holds 9; the classes are 0, 1, 2",
        ),
        ({"y_train": np.repeat([0, 1], 6)}, "has no training image of cat"),
        ({"class_names": np.array(["a", "a", "b"])}, "class_names must be a list of different"),
        ({"class_names": np.array("a")}, "class_names must be a list of different"),
        (
            {"y_train": np.zeros(12, np.int64), "y_test": np.zeros(6, int), "class_names": None},
            "has 1 class",
        ),
    ],
)
def test_a_bad_array_file_says_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError, match=said) as raised:
        read(path)
    assert str(path) in raised.value.message


def _objects(path: Path) -> Path:
    np.savez(path / "data.npz", X_train=np.array([{}, {}]), y_train=np.zeros(2))
    return path / "data.npz"


def _one_array(path: Path) -> Path:
    np.save(path / "data.npy", np.zeros((3, 4, 4), np.uint8))
    return path / "data.npy"


def _cut(path: Path) -> Path:
    whole = saved(path).read_bytes()
    (path / "data.npz").write_bytes(whole[: len(whole) // 2])
    return path / "data.npz"


def _no_zip(path: Path) -> Path:
    (path / "notes.txt").write_text("hello")
    return path / "notes.txt"


def _nothing(path: Path) -> Path:
    return path / "nowhere"


def _no_classes(path: Path) -> Path:
    return path


def _one_class(path: Path) -> Path:
    (path / "red").mkdir()
    Image.new("RGB", (9, 9)).save(path / "red" / "1.png")
    return path


def _empty_class(path: Path) -> Path:
    (class_folders(path / "pets") / "yellow").mkdir()
    return path / "pets"


def _strange_test_class(path: Path) -> Path:
    class_folders(path / "train")
    class_folders(path / "test")
    (path / "test" / "yellow").mkdir()
    return path


def _one_each(path: Path) -> Path:
    return class_folders(path / "pets", per_class=1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_objects, "cannot be read as .npz"),
        (_one_array, "cannot be read as .npz .*it holds one array"),
        (_cut, "cannot be read as .npz"),
        (_no_zip, "cannot be read as .npz"),
        (_nothing, "There is no file or folder"),
        (_no_classes, "has no sub-folders"),
        (_one_class, "has 1 class"),
        (_empty_class, "has no training image of yellow"),
        (_strange_test_class, "has classes that .* has not: yellow"),
        (_one_each, "none can be held out"),
    ],
)
def test_bad_data_says_what_is_wrong(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read(make(tmp_path))


def test_nothing_of_a_file_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    np.savez(tmp_path / "data.npz", X_train=np.array([Evil()], dtype=object), y_train=np.zeros(1))
    with pytest.raises(DataError):
        read(tmp_path / "data.npz")
    assert not (tmp_path / "executed").exists()


def test_labels_are_drawn_by_class_and_seed(tmp_path: Path) -> None:
    data = read(class_folders(tmp_path / "pets", per_class=20))
    small, large = (draw(data, labels=n, test=6, seed=5) for n in (9, 18))
    assert np.bincount(small.train.targets).tolist() == [3, 3, 3]
    assert np.bincount(small.test.targets).tolist() == [2, 2, 2]
    assert set(small.train.rows) <= set(large.train.rows)
    assert small.test.rows.tolist() == large.test.rows.tolist()
    assert draw(data, labels=9, seed=6).train.rows.tolist() != small.train.rows.tolist()


def test_too_little_that_can_be_read(tmp_path: Path) -> None:
    data = read(class_folders(tmp_path / "pets"))
    with pytest.raises(DataError, match=r"1 training images of 1 class\(es\) can be read"):
        draw(data, labels=1, seed=0)
    for file in (tmp_path / "pets").rglob("*.png"):
        file.write_bytes(b"broken")
    with pytest.raises(DataError, match="0 training images"):
        draw(data, seed=0)


@given(
    changed=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changed: list[tuple[int, int]], length: float
) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays())  # type: ignore[arg-type]
    data = bytearray(buffer.getvalue())
    for place, value in changed:
        data[place % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / "data.npz"
    path.write_bytes(bytes(data[: max(1, round(length * len(data)))]) if changed else bytes(data))
    try:
        assert read(path).classes
    except DataError:
        assert changed


def test_an_archive_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X_train", "no array")
        archive.writestr("y_train", "no array")
    with pytest.raises(DataError):
        read(tmp_path / "data.npz")
