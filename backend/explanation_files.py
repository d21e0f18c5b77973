"""An explanation as plain values, as a page that needs no other file, and as a picture."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flask import Flask
from PIL import Image

from backend.errors import SetupError
from backend.explainer import Explanation
from model.files import remove_quietly
from model.overlays import laid_over

PAGES = Path(__file__).with_name("pages")
GAP = 8


def explanation_json(found: Explanation) -> dict[str, Any]:
    """What an explanation says, without its layers."""
    return {
        "version": found.version,
        "control": found.control,
        "multiple": found.multiple,
        "label": found.label,
        "confidence": found.confidence,
        "top": [{"name": name, "probability": probability} for name, probability in found.top],
        "explained": found.explained,
        "fit": found.fit,
        "nearest": [asdict(near) for near in found.nearest],
    }


def picture_uri(picture: Image.Image, kind: str = "PNG") -> str:
    """A picture as a ``data:`` URI."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(_encoded(picture, kind)).decode()}"


def write_explanation(path: Path, image: Image.Image, found: Explanation, *, title: str) -> None:
    """Write the page, or where the name ends in ``.png`` the picture: the image, LIME, Grad-CAM.

    What was there stays until it is whole. :class:`SetupError` when it cannot be written.
    """
    png = path.suffix.lower() == ".png"
    content = _encoded(_side_by_side(image, found)) if png else _page(image, found, title)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        remove_quietly(partial)
        raise SetupError(
            f"{path} cannot be written ({error.strerror}).",
            mend="Name a place that can be, with --out.",
        ) from None


def _side_by_side(image: Image.Image, found: Explanation) -> Image.Image:
    layers = [laid_over(image, found.superpixels), laid_over(image, found.heat)]
    whole = Image.new("RGB", (3 * image.width + 2 * GAP, image.height), "white")
    for place, part in enumerate([image, *layers]):
        whole.paste(part, (place * (image.width + GAP), 0))
    return whole


def _page(image: Image.Image, found: Explanation, title: str) -> bytes:
    templates = Flask(__name__, template_folder=str(PAGES / "templates")).jinja_env
    page = templates.get_template("explanation.html").render(
        style=(PAGES / "static" / "tiebreak.css").read_text(encoding="utf-8"),
        title=title,
        subtitle=f"{found.version}, control {found.control}",
        found=found,
        image=picture_uri(image.convert("RGB"), "JPEG"),
        layers=[
            ("LIME: blue speaks for, orange against", picture_uri(found.superpixels)),
            ("Grad-CAM: where the image speaks for it", picture_uri(found.heat)),
        ],
    )
    return page.encode()


def _encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
