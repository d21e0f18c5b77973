"""What is no image, is too large or damaged gets a reason, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from backend.decode import decode_image
from backend.errors import ImageError
from tests.backend.made_images import VALID, decode, noise, png, saved


def test_pixels_are_limited_by_the_header_alone() -> None:
    # no pixels at all follow: the refusal comes before any decoding
    bomb = png(60_000, 60_000, 8, 2, b"")
    with pytest.raises(ImageError, match="60000 × 60000 pixels, more than 1,000,000") as caught:
        decode(bomb)
    assert not caught.value.retry
    assert "TIEBREAK_IMAGE_MAX_PIXELS" in str(caught.value)
    with pytest.raises(ImageError, match="pixels"):
        decode(saved(Image.new("L", (101, 100)), "PNG"), max_pixels=10_000)
    assert decode(saved(Image.new("L", (100, 100)), "PNG"), max_pixels=10_000).shape == (64, 64, 3)


def test_the_limit_is_ours_and_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(saved(Image.new("RGB", (40, 40)), "PNG")).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE html><html>", "a web page, not an image"),
        (b"<html><body>log in", "a web page, not an image"),
        (b'{"detail": "Not found."}', "a web page, not an image"),
        (b"[1, 2]", "a web page, not an image"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code>', "XML"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg width='3'></svg>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"hello", "not an image of a known format"),
    ],
)
def test_says_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        decode(data)
    assert not caught.value.retry


def test_formats_outside_the_list_are_refused() -> None:
    for format_ in ("ICO", "PPM", "TGA", "PCX"):
        with pytest.raises(ImageError, match="not an image"):
            decode(saved(Image.new("RGB", (16, 16)), format_))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_cut_off(format_: str) -> None:
    data = saved(noise(80, 60), format_)
    with pytest.raises(ImageError, match="cut off") as caught:
        decode(data[: len(data) // 2])
    assert not caught.value.retry


UNHURRIED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survives(data: bytes) -> None:
    try:
        picture = decode_image(data, max_pixels=250_000, side=16)
    except ImageError as error:
        assert (error.retry, bool(error.message)) == (False, True)  # noqa: PT017
        return
    assert picture.mode == "RGB"
    assert min(picture.size) <= 20
    assert max(picture.size) <= 160
    assert data.startswith(b"\xff\xd8") or (min(picture.size) <= 16 and max(picture.size) <= 128)


@UNHURRIED
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:16] for data in VALID.values())]))
def test_random_bytes(data: bytes, start: bytes) -> None:
    survives(start + data)


@UNHURRIED
@given(st.sampled_from(sorted(VALID)), st.data())
def test_truncations_and_mutations(name: str, draw: st.DataObject) -> None:
    data = bytearray(VALID[name])
    places = st.integers(0, len(data) - 1)
    for place, value in draw.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        data[place] = value
    end = draw.draw(st.one_of(st.just(len(data)), places))
    survives(bytes(data[:end]))
