from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.decode import decode_image, target_size
from backend.errors import ImageError
from tests.backend.made_images import MILLION, chunk, decode, noise, png, saved


def test_rgb_and_grey_keep_their_values() -> None:
    image = noise(5, 4)
    assert (decode(saved(image, "PNG")) == np.asarray(image)).all()
    grey = Image.fromarray(np.array([[0, 7], [200, 255]], np.uint8))
    assert decode(saved(grey, "PNG"))[:, :, 1].tolist() == [[0, 7], [200, 255]]


def test_one_bit() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    for format_ in ("PNG", "TIFF", "BMP"):
        assert decode(saved(image, format_))[:, :, 0].tolist() == [[0, 255], [255, 0]]


def test_half_transparent_is_laid_on_white() -> None:
    # 0.4 of (200, 0, 100) and 0.6 of white, with alpha 102 / 255
    image = Image.new("RGBA", (2, 2), (200, 0, 100, 102))
    expected = [0.4 * 200 + 0.6 * 255, 0.6 * 255, 0.4 * 100 + 0.6 * 255]
    for format_ in ("PNG", "TIFF"):
        assert np.abs(decode(saved(image, format_))[0, 0] - expected).max() <= 1
    lossless = saved(image, "WEBP", lossless=True, exact=True)
    assert np.abs(decode(lossless)[0, 0] - expected).max() <= 1


def test_grey_with_alpha() -> None:
    image = Image.new("LA", (2, 2), (100, 0))
    image.putpixel((1, 0), (100, 255))
    assert decode(saved(image, "PNG"))[:, :, 2].tolist() == [[255, 100], [255, 255]]


def test_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(saved(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    for format_ in ("PNG", "GIF"):
        shown = decode(saved(image, format_, transparency=0)).tolist()
        assert shown == [[[255, 255, 255], [40, 50, 60]]]
    halves = saved(image, "PNG", transparency=bytes([0, 51]))
    assert decode(halves).tolist() == [[[255, 255, 255], [212, 214, 216]]]


def test_colour_named_transparent() -> None:
    eight = png(2, 1, 8, 2, b"\0\xff\0\0\0\xff\0", chunk(b"tRNS", struct.pack(">3H", 255, 0, 0)))
    assert decode(eight).tolist() == [[[255, 255, 255], [0, 255, 0]]]
    grey = png(2, 1, 8, 0, b"\0\x07\x09", chunk(b"tRNS", struct.pack(">H", 7)))
    assert decode(grey)[:, :, 0].tolist() == [[255, 9]]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = [0, 128, 129, 257, 32768, 65535]
    rows = b"\0" + struct.pack(">6H", *values)
    expected = [[round(value / 257) for value in values]]
    assert expected == [[0, 0, 1, 1, 128, 255]]
    assert decode(png(6, 1, 16, 0, rows))[:, :, 0].tolist() == expected
    for order in ("<u2", ">u2"):
        image = Image.fromarray(np.array([values], order))
        assert decode(saved(image, "TIFF"))[:, :, 0].tolist() == expected
    keyed = png(6, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 257)))
    assert decode(keyed)[:, :, 0].tolist() == expected


def test_integers_and_floats_are_stretched() -> None:
    integers = Image.fromarray(np.array([[-1000, 0, 1000, 3000]], np.int32))
    assert decode(saved(integers, "TIFF"))[:, :, 0].tolist() == [[0, 64, 128, 255]]
    floats = Image.fromarray(np.array([[0.0, 0.5, np.nan, 1.0]], np.float32))
    assert decode(saved(floats, "TIFF"))[:, :, 0].tolist() == [[0, 128, 0, 255]]
    flat = Image.fromarray(np.full((1, 2), 300, np.int32))
    assert decode(saved(flat, "TIFF"))[:, :, 0].tolist() == [[255, 255]]


def test_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # cyan ink alone
    assert decode(saved(image, "TIFF"))[0, 0].tolist() == [0, 255, 255]
    assert (
        np.abs(decode(saved(image, "JPEG", quality=95))[8, 8].astype(int) - [0, 255, 255]).max() < 6
    )


def test_other_colour_modes() -> None:
    lab = Image.new("LAB", (2, 2))
    with pytest.raises(ImageError, match="colour mode LAB"):
        decode(saved(lab, "TIFF"))
    ycbcr = Image.new("RGB", (2, 2), (200, 30, 60)).convert("YCbCr")
    assert np.abs(decode(saved(ycbcr, "TIFF"))[0, 0].astype(int) - [200, 30, 60]).max() <= 3


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "GIF"])
def test_formats(format_: str) -> None:
    image = Image.new("RGB", (32, 24), (200, 30, 60))
    picture = decode(saved(image, format_))
    assert picture.shape == (24, 32, 3)
    assert np.abs(picture[12, 16].astype(int) - [200, 30, 60]).max() <= 8


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for format_ in ("GIF", "PNG", "TIFF"):
        data = saved(frames[0], format_, save_all=True, append_images=frames[1:])
        assert decode(data)[4, 4].tolist() == [255, 0, 0]
    webp = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(webp)[4, 4].tolist() == [255, 0, 0]
    mpo = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(decode(mpo)[4, 4].astype(int) - [255, 0, 0]).max() <= 3


def test_progressive() -> None:
    image = noise(60, 40).resize((120, 80))
    plain = decode(saved(image, "JPEG", quality=90))
    assert (decode(saved(image, "JPEG", quality=90, progressive=True)) == plain).all()


def upright() -> Image.Image:
    """Four quarters of known colours, wider than high."""
    image = Image.new("RGB", (64, 32))
    for box, colour in (
        ((0, 0, 32, 16), (255, 0, 0)),
        ((32, 0, 64, 16), (0, 255, 0)),
        ((0, 16, 32, 32), (0, 0, 255)),
        ((32, 16, 64, 32), (255, 255, 255)),
    ):
        image.paste(colour, box)
    return image


STORED = {  # what a camera stores so that the viewer's turn gives ``upright``
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation(orientation: int, format_: str) -> None:
    wanted = np.asarray(upright())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](wanted)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, format_, exif=exif, quality=95)
    picture = decode(data)
    assert picture.shape == wanted.shape
    for row, column in ((8, 16), (8, 48), (24, 16), (24, 48)):
        difference = picture[row, column].astype(int) - wanted[row, column]
        assert np.abs(difference).max() < 16
    assert decode(data, side=16).shape == (16, 32, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow says of it
def test_damaged_exif_is_overlooked() -> None:
    data = saved(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((100, 50), 64, (100, 50)),  # never enlarged
        ((200, 100), 64, (128, 64)),
        ((100, 200), 64, (64, 128)),
        ((64, 64), 64, (64, 64)),
        ((1000, 10), 10, (80, 1)),  # longer side capped at 8 * 10
        ((5000, 1), 10, (80, 1)),
        ((600, 100), 50, (300, 50)),
    ],
)
def test_target_size(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert target_size(*size, side) == expected
    assert decode(saved(Image.new("RGB", size), "PNG"), side=side).shape[:2] == expected[::-1]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 500))
def test_target_size_keeps_its_limits(width: int, height: int, side: int) -> None:
    small = target_size(width, height, side)
    assert 1 <= min(small) <= side or small == (width, height)
    assert min(small) <= side
    assert max(small) <= max(8 * side, 1)
    assert small[0] <= width
    assert small[1] <= height
    assert (small[0] >= small[1]) == (width >= height) or small[0] == small[1]


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    smooth = noise(20, 15).resize((1600, 1200), Image.Resampling.BICUBIC)
    picture = decode(saved(smooth, "JPEG", quality=95), side=96, max_pixels=2 * MILLION)
    assert picture.shape == (96, 128, 3)
    expected = np.asarray(smooth.resize((128, 96), Image.Resampling.LANCZOS))
    assert np.abs(picture.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1600, 1200), (400, 300)),  # a quarter
        ((1200, 1600), (300, 400)),
        ((2880, 2880), (360, 360)),  # an eighth, a quarter more than is wanted
        ((2896, 2896), (288, 288)),  # which is too much
        ((360, 400), (360, 400)),
        ((361, 400), (288, 319)),
        ((200, 100), (200, 100)),
        ((6000, 300), (2304, 115)),  # the longer side is held to 8 * 288
        ((2600, 300), (2600, 300)),  # with a quarter more at most
    ],
)
def test_a_jpeg_stays_as_it_is_decoded_where_that_is_hardly_too_large(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    smooth = noise(8, 6).resize(size, Image.Resampling.BICUBIC)
    for picture in (smooth, smooth.convert("L"), smooth.convert("CMYK")):
        pixels = decode(saved(picture, "JPEG", quality=92), side=288, max_pixels=9 * MILLION)
        assert pixels.shape[1::-1] == wanted
        expected = np.asarray(picture.convert("RGB").resize(wanted, Image.Resampling.LANCZOS))
        assert np.abs(pixels.astype(int) - expected).mean() < 2.5
    again = decode_image(saved(Image.fromarray(pixels), "JPEG"), max_pixels=MILLION, side=288)
    assert again.size == wanted


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_scaled_jpeg_is_turned(orientation: int, progressive: bool) -> None:
    wanted = np.asarray(upright().resize((1600, 1200), Image.Resampling.BICUBIC))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](wanted)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, "JPEG", exif=exif, quality=92, progressive=progressive)
    pixels = decode(data, side=288, max_pixels=2 * MILLION)
    assert pixels.shape == (300, 400, 3)
    expected = np.asarray(Image.fromarray(wanted).resize((400, 300), Image.Resampling.LANCZOS))
    assert np.abs(pixels.astype(int) - expected).mean() < 2.5
