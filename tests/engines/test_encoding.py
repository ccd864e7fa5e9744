"""Image files: their pixels, their metadata, their thumbnails."""

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image

from generation.engines.encoding import FORMATS, encode, encode_all, thumbnail
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
    assert image.format == name.upper()
    assert Image.MIME[image.format] == encoded.content_type
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean() < 3


def make_noise(height, width):
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [make_pixels(), make_noise(64, 48), make_noise(1, 5), make_noise(5, 1), make_noise(64, 96)[::2, ::-3]],
    ids=["smooth", "noise", "one row", "one column", "not contiguous"],
)
def test_png_keeps_every_pixel(pixels):
    encoded = encode(pixels, image_format="png", metadata={})

    image = read(encoded)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)


def test_png_of_a_smooth_picture_is_a_fraction_of_its_pixels():
    pixels = make_pixels(512, 512)

    encoded = encode(pixels, image_format="png", metadata={})

    assert len(encoded.data) < pixels.nbytes / 20


def test_a_strict_reader_finds_the_checksums_of_the_png_right():
    encoded = encode(make_pixels(), image_format="png", metadata=METADATA)

    image = read(encoded)
    image.verify()  # raises for a broken chunk
    assert encoded.data.endswith(b"\0\0\0\0IEND\xae\x42\x60\x82")


@pytest.mark.parametrize("name", FORMATS)
def test_equal_input_gives_equal_bytes(name):
    first = encode(make_pixels(), image_format=name, metadata=METADATA)

    second = encode(make_pixels(), image_format=name, metadata=dict(reversed(METADATA.items())))

    assert first == second


def test_png_carries_the_metadata_as_text():
    encoded = encode(make_pixels(), image_format="png", metadata=METADATA)

    assert read(encoded).text == METADATA


def test_png_carries_texts_of_all_scripts_and_lengths():
    texts = {"latin": "crème brûlée", "lines": "one\ntwo", "long": "ein Apfel " * 5_000, "others": "りんご 🍎 " * 5_000}

    image = read(encode(make_pixels(), image_format="png", metadata={**texts, "none": ""}))

    assert image.text == {**texts, "none": ""}


def test_png_writes_what_latin_1_holds_as_text_and_the_rest_as_international_text():
    plain, other = (encode(make_pixels(), image_format="png", metadata={"prompt": text}) for text in ("café", "кот"))

    assert b"tEXtprompt\0caf\xe9" in plain.data
    assert b"iTXtprompt\0\0\0\0\0" + "кот".encode() in other.data


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


def test_all_pictures_come_back_in_order_with_their_metadata_and_thumbnails():
    pictures = [make_noise(300 + number, 40) for number in range(9)]
    metadata = [{"seed": str(number)} for number in range(9)]

    encoded = encode_all(pictures, image_format="png", metadata=metadata)

    assert encoded == [
        (encode(pixels, image_format="png", metadata=own), thumbnail(pixels))
        for pixels, own in zip(pictures, metadata, strict=True)
    ]


def test_a_fault_of_one_of_many_pictures_is_raised():
    with pytest.raises(UnsupportedParameter, match="png, webp, jpeg"):
        encode_all([make_pixels()] * 2, image_format="tiff", metadata=[{}] * 2)
