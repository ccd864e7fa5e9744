"""Image files: their pixels, their metadata, their thumbnails."""

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image

from generation.engines.encoding import FORMATS, encode, thumbnail
from generation.engines.errors import UnsupportedParameter

METADATA = {"prompt": "кот в короне 👑", "model": "fluent-emoji-256", "seed": "7"}


def make_pixels(height=48, width=64):
    """A smooth picture, which lossy formats keep well."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 3, rows + columns], axis=-1).astype(np.uint8)


def read(encoded):
    return Image.open(BytesIO(encoded.data))


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_keeps_the_picture(name):
    pixels = make_pixels()

    encoded = encode(pixels, image_format=name, metadata=METADATA)

    image = read(encoded)
    assert image.format == FORMATS[name].pillow_name
    assert Image.MIME[image.format] == encoded.content_type
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean() < 3


def test_png_keeps_every_pixel():
    pixels = make_pixels()

    encoded = encode(pixels, image_format="png", metadata={})

    assert np.array_equal(np.asarray(read(encoded)), pixels)


@pytest.mark.parametrize("name", FORMATS)
def test_equal_input_gives_equal_bytes(name):
    first = encode(make_pixels(), image_format=name, metadata=METADATA)

    second = encode(make_pixels(), image_format=name, metadata=dict(reversed(METADATA.items())))

    assert first == second


def test_png_carries_the_metadata_as_text():
    encoded = encode(make_pixels(), image_format="png", metadata=METADATA)

    assert read(encoded).text == METADATA


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_exif_carries_the_prompt_and_all_metadata(name):
    encoded = encode(make_pixels(), image_format=name, metadata=METADATA)

    exif = read(encoded).getexif()
    description = exif[ExifTags.Base.ImageDescription]
    character_code, comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment].split(b"\0", 1)
    assert description.encode("latin-1").decode() == METADATA["prompt"]  # Pillow reads all EXIF text as Latin-1
    assert character_code == b"UNICODE"
    assert json.loads(comment.decode("utf-16-be")) == METADATA


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UnsupportedParameter, match="png, webp, jpeg"):
        encode(make_pixels(), image_format="tiff", metadata={})


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(300, 600, (256, 128)), (600, 300, (128, 256)), (40, 30, (30, 40))]
)
def test_a_thumbnail_fits_its_longest_side_and_never_grows(height, width, expected):
    small = thumbnail(make_pixels(height, width))

    assert (small.content_type, small.extension) == ("image/webp", "webp")
    assert read(small).size == expected
