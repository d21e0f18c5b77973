"""All hostile image files, by the name of their file."""

from __future__ import annotations

from tests.backend.hostile_image import Hostile
from tests.backend.hostile_jpegs import JPEGS
from tests.backend.hostile_others import BMPS, GIFS, NEWER, NO_IMAGES
from tests.backend.hostile_pngs import PNGS
from tests.backend.hostile_tiffs import TIFFS

FAMILIES = {
    "PNG": PNGS,
    "JPEG": JPEGS,
    "TIFF": TIFFS,
    "GIF": GIFS,
    "BMP": BMPS,
    "newer": NEWER,
    "no image": NO_IMAGES,
}


def all_hostile(*, heavy: bool) -> list[Hostile]:
    """Every file once; without the heavy ones they are decoded in seconds."""
    found = [one for family in FAMILIES.values() for one in family]
    return [one for one in found if heavy or not one.heavy]
