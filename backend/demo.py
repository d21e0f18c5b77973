"""The images that ``tiebreak up`` brings into a project: the digits, or a folder of the caller's.

Label Studio serves local files only from below one document root, which it is told at its start.
That root is ``served`` in the data folder, and images get there as hard links (copies where the
file system has none): so Label Studio can read nothing of the caller's disk but what was named,
one root is enough for any number of folders, and labels keep their images when a folder is moved
or deleted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from defusedxml.ElementTree import fromstring
from PIL import Image

from backend.errors import SetupError

DIGIT_CLASSES = tuple("0123456789")
DIGIT_COUNT = 1797
DIGIT_SIDE = 160
BROWSER_FORMATS = frozenset({"PNG", "JPEG", "GIF", "BMP", "WEBP", "AVIF"})
SINGLE_CHOICE = Path(__file__).parents[1] / "label_studio_config" / "single-choice.xml"
TITLE_LENGTHS = (3, 50)

log = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageSet:
    """Images for one project.

    ``key``      what the set is known by from run to run
    ``title``    title of the project, 3 to 50 characters
    ``classes``  what an image can be
    ``folder``   the set's folder, to which ``names`` (sorted, with ``/``) are relative
    ``left_out`` for each other file, its name and why it is no image to label
    """

    key: str
    title: str
    classes: tuple[str, ...]
    folder: Path
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def write_digits(folder: Path, say: Say = log.info) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits as grey PNG files, 160 by 160 pixels, dark on white.

    ``NNNN.png`` is image NNNN of ``load_digits``; no name gives the class away. Values 0 to 16
    become 255 to 0, enlarged 20 times (bicubic: easier to read than blocks, and 6 points more
    accurate under MobileNetV2 with 150 labels). Files that exist are left as they are.
    """
    names = tuple(f"{number:04d}.png" for number in range(DIGIT_COUNT))
    missing = [number for number, name in enumerate(names) if not (folder / name).exists()]
    if missing:
        from sklearn.datasets import load_digits

        folder.mkdir(parents=True, exist_ok=True)
        values = load_digits().images
        for done, number in enumerate(missing):
            if done % 100 == 0:
                say(f"{done} of {len(missing)}")
            pixels = (255 - values[number] * (255 / 16)).round().astype("uint8")
            enlarged = Image.fromarray(pixels).resize(
                (DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC
            )
            partial = folder / f"{names[number]}.partial"
            enlarged.save(partial, "PNG")
            partial.replace(folder / names[number])
    return ImageSet("digits", "Digits", DIGIT_CLASSES, folder, names)


def find_images(images: Path, classes: Sequence[str] | None, say: Say = log.info) -> ImageSet:
    """The images in a folder and its sub-folders that a browser can show, hidden files left out.

    Each file is told by what is in it, not by its name. SetupError when the folder does not exist
    or has no image, and when ``classes`` are fewer than two or one is named twice.
    """
    folder = images.expanduser().resolve()
    if not folder.is_dir():
        raise SetupError(
            f"IMAGES={images} is not a folder.", mend="Name a folder that has images in it."
        )
    checked = _checked_classes(classes)
    names: list[str] = []
    left_out: list[str] = []
    for seen, path in enumerate(_files(folder)):
        if seen % 500 == 0:
            say(f"{seen} files looked at")
        name = path.relative_to(folder).as_posix()
        reason = _unusable(path)
        if reason:
            left_out.append(f"{name} ({reason})")
        else:
            names.append(name)
    if not names:
        others = f"; it has {len(left_out)} other files" if left_out else "; it is empty"
        raise SetupError(
            f"IMAGES={images} has no image{others}.",
            mend=f"Name a folder with {', '.join(sorted(BROWSER_FORMATS))} files.",
        )
    title = _project_title(folder.name)
    return ImageSet(str(folder), title, checked, folder, tuple(names), tuple(left_out))


def serve_images(images: ImageSet, served: Path) -> Path:
    """Link (or copy) the images below ``served``; the folder they are in there.

    Done again it adds what is new and leaves the rest. SetupError when a file cannot be read.
    """
    short = hashlib.sha256(images.key.encode()).hexdigest()[:8]
    target = served / f"{_slug(images.folder.name)}-{short}"
    for name in images.names:
        link = target / name
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy((images.folder / name).resolve(), link)
    return target


def local_uri(folder: Path, name: str) -> str:
    """Address under which Label Studio serves ``name`` in ``folder``, itself below the root."""
    return "/data/local-files/?d=" + quote(f"{folder.name}/{name}")


def single_choice_config(classes: Sequence[str]) -> str:
    """The single-choice labelling config with these classes; a digit is its own hotkey.

    Raises OSError when the repository's ``label_studio_config`` is missing.
    """
    view = fromstring(SINGLE_CHOICE.read_text(encoding="utf-8"))
    choices = next(view.iter("Choices"))
    for choice in list(choices):
        choices.remove(choice)
    for name in classes:
        hotkey = {"hotkey": name} if re.fullmatch("[0-9]", name) else {}
        Xml.SubElement(choices, "Choice", {"value": name, **hotkey})
    Xml.indent(view)
    return str(Xml.tostring(view, encoding="unicode"))


def _checked_classes(classes: Sequence[str] | None) -> tuple[str, ...]:
    mend = "Give them as in: make run IMAGES=some/folder CLASSES=cat,dog"
    if not classes:
        raise SetupError("IMAGES is given without CLASSES.", mend=mend)
    checked = tuple(name.strip() for name in classes if name.strip())
    repeated = sorted({name for name in checked if checked.count(name) > 1})
    if repeated:
        raise SetupError(f"CLASSES names {', '.join(repeated)} more than once.", mend=mend)
    from_data = [name for name in checked if "$" in name]
    if from_data:
        raise SetupError(
            f"CLASSES names {from_data[0]}, which Label Studio would take from a task's data.",
            mend="Give it a name without a $.",
        )
    if len(checked) < 2:
        raise SetupError(f"CLASSES={','.join(classes)} has fewer than two classes.", mend=mend)
    return checked


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent, name)


def _unusable(path: Path) -> str:
    """Why a file is no image to label; empty when it is one. Only the file's head is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                kind = str(image.format)
    except OSError as error:
        return error.strerror or "not an image"
    except Image.DecompressionBombError:
        return "too many pixels"
    except Exception:  # Pillow's plugins raise anything on damaged files
        return "damaged"
    return "" if kind in BROWSER_FORMATS else f"{kind}, which a browser does not show"


def _project_title(name: str) -> str:
    shortest, longest = TITLE_LENGTHS
    return (name if len(name) >= shortest else f"{name} images".strip())[:longest]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "images"


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(f".{target.name}.partial")
        try:
            shutil.copyfile(source, partial)
        except OSError as error:
            raise SetupError(
                f"{source} cannot be copied to {target} ({error.strerror}).",
                mend="Make it readable and see that the disk has room, then run again.",
            ) from error
        partial.replace(target)
