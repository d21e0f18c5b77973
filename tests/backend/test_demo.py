from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from backend.demo import (
    DIGIT_CLASSES,
    ImageSet,
    find_images,
    local_uri,
    serve_images,
    single_choice_config,
    write_digits,
)
from backend.errors import SetupError
from backend.label_config import parse_label_config


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return write_digits(tmp_path_factory.mktemp("served") / "digits")


def picture(path: Path, kind: str | None = None, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), colour).save(path, kind)
    return path


def test_every_digit_is_a_file_and_every_file_a_digit(digits: ImageSet) -> None:
    assert len(digits.names) == 1797
    assert sorted(os.listdir(digits.folder)) == list(digits.names)
    assert digits.classes == tuple("0123456789")


def test_the_pixels_are_the_digits(digits: ImageSet) -> None:
    values = load_digits().images  # (1797, 8, 8), 0 to 16
    for number, name in enumerate(digits.names):
        with Image.open(digits.folder / name) as image:
            assert (image.mode, image.size) == ("L", (160, 160))
            pixels = np.asarray(image, dtype=float)
        # A bicubic curve goes through its points: the four pixels around the middle of a cell
        # lie a fortieth of a cell from it.
        middles = np.mean(
            [pixels[9 + dy :: 20, 9 + dx :: 20] for dy in (0, 1) for dx in (0, 1)], axis=0
        )
        np.testing.assert_allclose(middles, 255 - values[number] * (255 / 16), atol=3)


def test_digits_that_are_there_are_left_and_missing_ones_come_back(digits: ImageSet) -> None:
    kept, lost = digits.folder / "0000.png", digits.folder / "0001.png"
    before, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert write_digits(digits.folder) == digits
    assert lost.read_bytes() == content
    assert kept.stat().st_mtime_ns == before


def test_images_are_told_by_content_in_all_folders_but_hidden_ones(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "one.png")
    picture(tmp_path / "a" / "two.jpeg")
    picture(tmp_path / "no-ending", "WEBP")
    picture(tmp_path / ".hidden" / "x.png")
    picture(tmp_path / "._x.png")
    picture(tmp_path / "scan.tiff")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "liar.jpg").write_text("not an image either")
    (tmp_path / "empty.png").touch()
    found = find_images(tmp_path, ["cat", " dog "])
    assert found.names == ("no-ending", "a/two.jpeg", "b/one.png")
    assert found.classes == ("cat", "dog")
    assert found.left_out == (
        "empty.png (not an image)",
        "liar.jpg (not an image)",
        "notes.txt (not an image)",
        "scan.tiff (TIFF, which a browser does not show)",
    )


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (None, "IMAGES is given without CLASSES"),
        ([], "IMAGES is given without CLASSES"),
        (["cat"], "CLASSES=cat has fewer than two classes"),
        (["cat", " "], "fewer than two"),
        (["cat", "$dog"], "CLASSES names [$]dog, which Label Studio would take from a task"),
        (["cat", "dog", "cat"], "CLASSES names cat more than once"),
    ],
)
def test_classes_must_be_two_different_ones(
    tmp_path: Path, classes: list[str] | None, says: str
) -> None:
    picture(tmp_path / "x.png")
    with pytest.raises(SetupError, match=says) as caught:
        find_images(tmp_path, classes)
    assert caught.value.mend


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="has no image; it is empty"):
        find_images(tmp_path, ["a", "b"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SetupError, match="has no image; it has 1 other files"):
        find_images(tmp_path, ["a", "b"])
    with pytest.raises(SetupError, match="is not a folder"):
        find_images(tmp_path / "notes.txt", ["a", "b"])


@pytest.mark.parametrize(
    ("name", "title"),
    [("photos", "photos"), ("ab", "ab images"), ("x" * 60, "x" * 50), ("née", "née")],
)
def test_the_title_is_one_that_label_studio_takes(tmp_path: Path, name: str, title: str) -> None:
    picture(tmp_path / name / "x.png")
    assert find_images(tmp_path / name, ["a", "b"]).title == title


def test_served_images_are_the_same_bytes_and_outlive_the_folder(tmp_path: Path) -> None:
    source, served = tmp_path / "my photos", tmp_path / "served"
    content = picture(source / "deep" / "one.png").read_bytes()
    target = serve_images(find_images(source, ["a", "b"]), served)
    assert target.parent == served
    assert target.name.startswith("my-photos-")
    link = target / "deep" / "one.png"
    assert os.path.samefile(link, source / "deep" / "one.png")  # no second copy on the disk
    picture(source / "two.png")
    assert serve_images(find_images(source, ["a", "b"]), served) == target
    assert (target / "two.png").exists()
    source.rename(tmp_path / "elsewhere")
    assert link.read_bytes() == content


def test_two_folders_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    targets = set()
    for parent in ("x", "y"):
        picture(tmp_path / parent / "photos" / "1.png", colour="red" if parent == "x" else "blue")
        images = find_images(tmp_path / parent / "photos", ["a", "b"])
        targets.add(serve_images(images, tmp_path / "served"))
    assert len({(target / "1.png").read_bytes() for target in targets}) == len(targets) == 2


def test_links_of_the_caller_are_followed_to_the_file(tmp_path: Path) -> None:
    real = picture(tmp_path / "real.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link.png").symlink_to(real)
    target = serve_images(find_images(tmp_path / "photos", ["a", "b"]), tmp_path / "served")
    assert not (target / "link.png").is_symlink()
    assert (target / "link.png").read_bytes() == real.read_bytes()


@pytest.mark.skipif(os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev, reason="one disk")
def test_images_of_another_disk_are_copied(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        source = picture(Path(elsewhere, "photos", "x.png"))
        if source.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("the test's folder is on the same disk")
        target = serve_images(find_images(source.parent, ["a", "b"]), tmp_path / "served")
        assert (target / "x.png").read_bytes() == source.read_bytes()
        assert os.listdir(target) == ["x.png"]
        assert stat.S_ISREG((target / "x.png").lstat().st_mode)


def test_the_address_of_a_served_image_reads_back(tmp_path: Path) -> None:
    uri = urlsplit(local_uri(tmp_path / "photos-1", "a b/ü&=#%.png"))
    assert uri.path == "/data/local-files/"
    assert parse_qs(uri.query) == {"d": ["photos-1/a b/ü&=#%.png"]}


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1)
        .map(str.strip)
        .filter(lambda name: name and "$" not in name),
        min_size=2,
        max_size=12,
        unique=True,
    )
)
def test_any_classes_come_back_from_the_config(classes: list[str]) -> None:
    (control,) = parse_label_config(single_choice_config(classes)).controls
    assert control.classes == tuple(classes)
    assert (control.data_key, control.multiple) == ("image", False)


def test_a_digit_is_its_own_hotkey() -> None:
    config = single_choice_config(DIGIT_CLASSES)
    for digit in DIGIT_CLASSES:
        assert f'<Choice value="{digit}" hotkey="{digit}" />' in config
    assert "hotkey" not in single_choice_config(["cat", "dog"])
