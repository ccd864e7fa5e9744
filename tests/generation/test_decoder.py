"""What the decoder makes of files from outside, in its own process."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from generation import decoder, uploads
from generation.sources import Upload
from generation.uploads import RefusedPicture
from tests import pictures


def decoded(data: bytes, **wishes) -> Image.Image:
    result = uploads.decode(Upload(data, **wishes))
    picture = Image.open(io.BytesIO(result.data))
    assert (picture.format, picture.size) == ("PNG", (result.width, result.height))
    return picture


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_each_format_becomes_a_png_of_the_same_pixels(file_format):
    picture = decoded(pictures.encode(pictures.make(), file_format))

    assert np.abs(np.asarray(picture, int) - (220, 20, 60)).max() < 4


@pytest.mark.parametrize(
    ("mode", "becomes"), [("1", "L"), ("L", "L"), ("LA", "RGBA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA")]
)
def test_every_kind_of_pixel_becomes_one_of_three(mode, becomes):
    assert decoded(pictures.encode(pictures.make().convert(mode), "PNG")).mode == becomes


def test_sixteen_bits_become_eight():
    ramp = Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))

    pixels = np.asarray(decoded(pictures.encode(ramp, "PNG")))

    assert (pixels[0, 0], pixels[-1, -1]) == (0, 255)
    assert abs(int(pixels[32, 0]) - 128) <= 1


def test_the_orientation_is_applied_and_the_metadata_goes():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "where I live"
    data = pictures.encode(pictures.make(size=(64, 32)), "JPEG", exif=exif, comment=b"a secret")

    stored = uploads.decode(Upload(data))

    picture = Image.open(io.BytesIO(stored.data))
    assert picture.size == (32, 64)
    assert (dict(picture.getexif()), picture.info) == ({}, {})
    assert b"secret" not in stored.data


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"none"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_is_applied_if_it_makes_sense_and_goes(mode, profile):
    picture = decoded(pictures.encode(pictures.make().convert(mode), "PNG", icc_profile=profile))

    assert "icc_profile" not in picture.info
    assert np.abs(np.asarray(picture, int)[..., :3] - (220, 20, 60)).max() < 3


def test_an_alpha_mask_is_white_where_it_is_transparent():
    mask = pictures.make("RGBA", colour=(9, 9, 9, 255))
    mask.paste((9, 9, 9, 0), (32, 0, 64, 48))

    pixels = np.asarray(decoded(pictures.encode(mask, "PNG"), is_alpha_mask=True))

    assert (pixels[:, :32].max(), pixels[:, 32:].min()) == (0, 255)


def test_the_further_pictures_of_a_cameras_jpeg_are_left_out():
    data = pictures.encode(pictures.make(), "MPO", save_all=True, append_images=[pictures.make(colour="navy")])

    assert decoded(data).getpixel((0, 0))[0] > 200


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no whole picture"),
        (b"%PDF-1.7\n%\xe2\xe3", "no whole picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no whole picture"),
        (pictures.encode(pictures.make(), "GIF"), "no whole picture"),
        (pictures.encode(pictures.make(), "TIFF"), "no whole picture"),
        (pictures.animated("PNG"), "animated"),
        (pictures.animated("WEBP"), "animated"),
        (pictures.bomb(), "2500000000|50000 x 50000"),
        (pictures.png(size=(64, 8)), "too few"),
        (pictures.png()[:-20], "cut off"),
        (pictures.encode(pictures.make(), "JPEG")[:-20], "cut off"),
        (pictures.encode(pictures.make(), "WEBP")[:-20], "no whole picture"),
        (pictures.png() + b"PK\x03\x04 and a whole archive", "something else behind"),
        (pictures.encode(pictures.make(), "JPEG") + b"<script>", "something else behind"),
        (pictures.encode(pictures.make(), "WEBP") + b"<?php", "something else behind"),
    ],
)
def test_what_is_no_single_whole_picture_is_refused_with_a_sentence(data, sentence):
    with pytest.raises(RefusedPicture, match=sentence):
        uploads.decode(Upload(data))


def test_damage_inside_is_refused():
    data = bytearray(pictures.encode(Image.effect_noise((64, 64), 50), "PNG"))
    data[200:300] = bytes(100)

    with pytest.raises(RefusedPicture, match="damaged"):
        uploads.decode(Upload(bytes(data)))


def test_too_many_bytes_are_refused_before_anybody_looks_at_them(settings, monkeypatch):
    settings.MAX_INPUT_BYTES = 100
    monkeypatch.setattr(subprocess, "run", None)

    with pytest.raises(RefusedPicture, match="at most 100"):
        uploads.decode(Upload(bytes(101)))


def test_too_many_pixels_are_refused(settings):
    settings.MAX_INPUT_PIXELS = 1000

    with pytest.raises(RefusedPicture, match="at most 1000"):
        uploads.decode(Upload(pictures.png()))


def test_the_largest_picture_allowed_is_decoded_within_the_limits(settings):
    settings.MAX_INPUT_PIXELS = 4_000_000

    assert decoded(pictures.png(mode="RGBA", size=(2000, 2000), colour=(1, 2, 3, 100))).size == (2000, 2000)


def run_limited(code: str) -> subprocess.CompletedProcess[str]:
    """Some code in a process that has limited itself as the decoder does."""
    program = f"from generation import decoder; decoder.limit_resources(1_000_000)\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_the_decoder_cannot_take_more_memory_than_a_picture_of_that_size_does():
    assert "MemoryError" in run_limited("bytes(2 * 1024**3)").stderr


def test_the_decoder_cannot_write_files(tmp_path):
    code = f"import os; os.write(os.open('{tmp_path}/file', os.O_CREAT | os.O_WRONLY), b'x')"

    assert "File too large" in run_limited(code).stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="The number of processes does not limit root.")
def test_the_decoder_starts_no_processes():
    assert "BlockingIOError" in run_limited("import os; os.fork()").stderr


def test_a_decoder_that_dies_is_an_answer_too(monkeypatch, tmp_path):
    program = tmp_path / "dies.py"
    program.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(uploads, "PROGRAM", program)

    with pytest.raises(RefusedPicture, match="damaged"):
        uploads.decode(Upload(pictures.png()))


def test_the_decoder_sees_nothing_of_our_environment(monkeypatch, tmp_path):
    program = tmp_path / "tells.py"
    program.write_text("import json, os; print(json.dumps({'refusal': ' '.join(os.environ)}))")
    monkeypatch.setattr(uploads, "PROGRAM", program)
    monkeypatch.setenv("PICTOR_SECRET_KEY", "a secret")

    with pytest.raises(RefusedPicture) as refused:
        uploads.decode(Upload(pictures.png()))

    assert "PICTOR" not in str(refused.value)


def test_the_program_answers_in_json_when_it_refuses():
    done = subprocess.run(
        [sys.executable, "-I", decoder.__file__, "1000", "picture"], input=b"x", capture_output=True, check=False
    )

    assert done.returncode == decoder.REFUSED
    assert "no whole picture" in json.loads(done.stdout)["refusal"]
