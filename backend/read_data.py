"""Read labelled images: a folder of class folders, or one ``.npz`` file.

A folder has one sub-folder for each class, or ``train`` and ``test`` (or ``val``) with one for
each class in both; images below it at any depth belong to the class. An ``.npz`` file has
``X_train`` and ``y_train``, if there is one ``X_test`` and ``y_test``, and perhaps
``class_names``; it is read without pickle. Without a test part a share of each class is held out,
drawn by the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backend.errors import DataError
from backend.labelled_data import ArrayImages, FileImages, ImageSet, LabelledData
from model.splits import stratified_split

TEST_SHARE: Final = 0.2
# fmt: off
SUFFIXES: Final = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k",
})
# fmt: on
_TRAIN, _TESTS = "train", ("test", "val", "valid", "validation")
_LAYOUT = (
    "DATA is a folder with one sub-folder of images for each class, or an .npz file with X_train "
    "and y_train."
)


def read_labelled_data(path: Path, *, seed: int, side: int, max_pixels: int) -> LabelledData:
    """What ``path`` holds; images of files are reduced to a shorter side of ``side`` pixels.

    :class:`DataError` says what is wrong with it and what is needed.
    """
    try:
        if path.is_dir():
            return _read_folder(path, seed, side, max_pixels)
        if path.is_file():
            return _read_arrays(path, seed)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror}).") from None
    raise DataError(f"There is no file or folder {path}.", mend=_LAYOUT)


def _held_out(part: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    generator = np.random.default_rng([seed, 2])
    kept, held = stratified_split(part.targets, TEST_SHARE, generator)
    return part.at(kept), part.at(held)


def _finished(
    path: Path,
    classes: Sequence[str],
    train: ImageSet,
    test: ImageSet | None,
    digest: str,
    seed: int,
) -> LabelledData:
    counts = np.bincount(train.targets, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"{path} has no training image of {_listed(empty)}.",
            mend="Remove the class, or give it images.",
        )
    if len(classes) < 2:
        raise DataError(f"{path} has {len(classes)} class; 2 are needed.", mend=_LAYOUT)
    held_out = test is None
    if test is None:
        train, test = _held_out(train, seed)
        if not len(test):
            raise DataError(
                f"{path} has one image for each class, and none can be held out to test on.",
                mend="Give at least one class two images.",
            )
    return LabelledData(path.name, tuple(classes), train, test, held_out, digest)


def _read_folder(path: Path, seed: int, side: int, max_pixels: int) -> LabelledData:
    folders = _folders(path)
    names = {folder.name.lower(): folder for folder in folders}
    judged = next((names[name] for name in _TESTS if name in names), None)
    apart = _TRAIN in names and judged is not None
    root = names[_TRAIN] if apart else path
    classes = [folder.name for folder in _folders(root)]
    digest = hashlib.sha256()

    def part(of: Path) -> ImageSet:
        files = {name: _image_files(of / name) for name in classes if (of / name).is_dir()}
        paths = tuple(file for found in files.values() for file in found)
        for file in paths:
            status = file.stat()
            known = f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(known.encode(errors="surrogateescape"))
        lengths = [len(files.get(name, ())) for name in classes]
        targets = np.repeat(np.arange(len(classes), dtype=np.int64), lengths)
        source = FileImages(paths, max_pixels, side)
        return ImageSet(source, np.arange(len(paths)), targets)

    if not classes:
        raise DataError(f"{path} has no sub-folders.", mend=_LAYOUT)
    train, test = part(root), None
    if apart and judged is not None:
        unknown = [folder.name for folder in _folders(judged) if folder.name not in classes]
        if unknown:
            raise DataError(f"{judged} has classes that {root} has not: {_listed(unknown)}.")
        test = part(judged)
        if not len(test):
            raise DataError(f"{judged} has no images.", mend=_LAYOUT)
    return _finished(path, classes, train, test, digest.hexdigest()[:16], seed)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(path: Path) -> list[Path]:
    return sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def _read_arrays(path: Path, seed: int) -> LabelledData:
    arrays = _arrays(path)
    missing = sorted({"X_train", "y_train"} - set(arrays))
    if missing:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path} has no {_listed(missing)}; it holds {held}.", mend=_LAYOUT)
    if len({"X_test", "y_test"} & set(arrays)) == 1:
        raise DataError(f"{path} has only one of X_test and y_test.", mend="Give both or neither.")
    images, labels = _checked(path, arrays, "train")
    tested = _checked(path, arrays, "test") if "X_test" in arrays else None
    classes, positions = _class_names(path, arrays, labels, tested[1] if tested else None)
    train, test = _array_part(images, positions(labels)), None
    if tested is not None:
        test = _array_part(tested[0], positions(tested[1]))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return _finished(path, classes, train, test, digest, seed)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    wanted = ("X_train", "y_train", "X_test", "y_test", "class_names")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not several by name")
            found = {name: archive[name] for name in archive.files if name in wanted}
        odd = [name for name, value in found.items() if not isinstance(value, np.ndarray)]
        if odd:
            raise ValueError(f"{odd[0]} is no array")
        return found
    # A cut or changed file makes the readers raise nearly anything.
    except Exception as error:
        why = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{path} cannot be read as .npz ({type(error).__name__}: {why}).", mend=_LAYOUT
        ) from None


def _checked(
    path: Path, arrays: dict[str, NDArray[Any]], part: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = arrays[f"X_{part}"], arrays[f"y_{part}"]
    shape = images.shape
    fits = images.ndim == 3 or (images.ndim == 4 and shape[3] in (1, 3, 4))
    if not fits or 0 in shape:
        raise DataError(
            f"{path}: X_{part} has shape {shape}; (n, h, w), or with 1, 3 or 4 channels "
            "(n, h, w, c), is needed, and at least one image with pixels."
        )
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: X_{part} has dtype {images.dtype}; uint8, 0 to 255, is needed.",
            mend="Save it as uint8.",
        )
    if labels.shape != (len(images),):
        raise DataError(f"{path}: y_{part} has shape {labels.shape}; ({len(images)},) is needed.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: y_{part} has dtype {labels.dtype}; whole numbers are needed.")
    return images, labels.astype(np.int64)


def _class_names(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    labels: NDArray[np.int64],
    tested: NDArray[np.int64] | None,
) -> tuple[list[str], Callable[[NDArray[np.int64]], NDArray[np.int64]]]:
    """The classes, and what turns labels into positions in them."""
    known = np.unique(labels)
    if "class_names" in arrays:
        names = [str(name) for name in arrays["class_names"].ravel()]
        if arrays["class_names"].ndim != 1 or len(set(names)) != len(names):
            raise DataError(f"{path}: class_names must be a list of different names.")
        known = np.arange(len(names))
    else:
        names = [str(value) for value in known]
    for part, values in (("train", labels), ("test", tested)):
        odd = np.setdiff1d(values, known) if values is not None else np.zeros(0)
        if odd.size:
            allowed = f"0 to {len(names) - 1}" if "class_names" in arrays else _listed(names)
            raise DataError(f"{path}: y_{part} holds {odd[0]}; the classes are {allowed}.")
    return names, lambda values: np.searchsorted(known, values).astype(np.int64)


def _array_part(images: NDArray[np.uint8], targets: NDArray[np.int64]) -> ImageSet:
    return ImageSet(ArrayImages(images), np.arange(len(images)), targets)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
