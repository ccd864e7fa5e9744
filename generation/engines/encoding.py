"""Pixels into the bytes of an image file, with the generation's parameters inside."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from generation.engines.errors import UnsupportedParameter
from generation.engines.png import write_png

# Beside the threads that draw; the files of one generation are few, and more threads would only wait for each other.
_POOL = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="encoding")

_SMALL_SIDE = 256  # the longest of a thumbnail, and of a preview as a page shows it
_JPEG_OPTIONS: Mapping[str, object] = {"quality": 95, "subsampling": "4:4:4"}
# As far from the pixels as quality 90 by the usual method 4, in half the time, for files less than a tenth larger.
_WEBP_OPTIONS: Mapping[str, object] = {"quality": 91, "method": 2}
# Method 2 takes half the time of the usual 4, for files a few per cent larger.
_THUMBNAIL_OPTIONS: Mapping[str, object] = {"quality": 80, "method": 2}

_PREVIEW_OPTIONS: Mapping[str, object] = {"quality": 60, "method": 0}


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file; the extension has no dot."""

    data: bytes
    content_type: str
    extension: str


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A file format, and what writes pixels and metadata in it."""

    content_type: str
    extension: str
    write: Callable[[np.ndarray, Mapping[str, str]], bytes]


def encode_all(
    pictures: Sequence[np.ndarray], *, image_format: str, metadata: Sequence[Mapping[str, str]]
) -> list[tuple[EncodedImage, EncodedImage]]:
    """The file and the thumbnail of each picture, in their order; made side by side on a few threads.

    Pictures are uint8 (height, width, 3), with one mapping of metadata each, as `encode` takes them. Waits for all.
    What is slow here lets go of Python's lock, so the engine's thread runs on meanwhile. Raises what `encode` raises.
    """
    files = [
        _POOL.submit(encode, pixels, image_format=image_format, metadata=own)
        for pixels, own in zip(pictures, metadata, strict=True)
    ]
    thumbnails = [_POOL.submit(thumbnail, pixels) for pixels in pictures]
    return [(file.result(), small.result()) for file, small in zip(files, thumbnails, strict=True)]


def encode(pixels: np.ndarray, *, image_format: str, metadata: Mapping[str, str]) -> EncodedImage:
    """One image, uint8 (height, width, 3), as a file; equal input gives equal bytes on one kind of processor.

    PNG holds the metadata as text chunks. JPEG and WebP hold it in EXIF: the value of "prompt" as
    ImageDescription (in UTF-8, as the Metadata Working Group's guidelines have it), all of it as JSON in
    UserComment. JPEG has room for 64 KiB of EXIF. Raises UnsupportedParameter for an unknown format.
    """
    if image_format not in FORMATS:
        raise UnsupportedParameter(f"There is no format {image_format!r}. Choose one of: {', '.join(FORMATS)}.")
    chosen = FORMATS[image_format]
    data = chosen.write(pixels, metadata)
    return EncodedImage(data=data, content_type=chosen.content_type, extension=chosen.extension)


def thumbnail(pixels: np.ndarray) -> EncodedImage:
    """A small WebP of one image, uint8 (height, width, 3); never larger than the image itself."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.LANCZOS)
    data = _save(image, "WEBP", options=_THUMBNAIL_OPTIONS)
    return EncodedImage(data=data, content_type="image/webp", extension="webp")


def preview(pixels: np.ndarray) -> bytes:
    """A WebP of a preview, uint8 (h, w, 3), enlarged to what a page shows: that costs hardly any bytes."""
    height, width = pixels.shape[:2]
    scale = _SMALL_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _save(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), "WEBP", options=_PREVIEW_OPTIONS)


def convert(data: bytes, *, image_format: str) -> bytes:
    """A file of ours, a preview for example, in another of our formats, without metadata."""
    with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
        return encode(np.asarray(picture.convert("RGB")), image_format=image_format, metadata={}).data


def _write_png(pixels: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    return write_png(pixels, text=metadata)


def _write_webp(pixels: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    return _save(Image.fromarray(pixels), "WEBP", options={**_WEBP_OPTIONS, "exif": _exif(metadata)})


def _write_jpeg(pixels: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    return _save(Image.fromarray(pixels), "JPEG", options={**_JPEG_OPTIONS, "exif": _exif(metadata)})


def _save(image: Image.Image, pillow_name: str, *, options: Mapping[str, object]) -> bytes:
    with _file_in_memory() as file:
        image.save(file, format=pillow_name, **options)
        file.seek(0)
        return file.read()


def _file_in_memory() -> IO[bytes]:
    """Where there is one with a descriptor: only into such a file Pillow writes JPEG without Python's lock.

    See _encode_to_file in https://github.com/python-pillow/Pillow/blob/main/src/encode.c. Into BytesIO a picture of
    1024 pixels stops all other threads, the engine's too, for 7 ms.
    """
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("image"), "w+b")
    return BytesIO()


def _exif(metadata: Mapping[str, str]) -> Image.Exif:
    """UserComment begins with the code of its character set (Exif 2.32, 4.6.5); UNICODE means UTF-16."""
    everything = json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = metadata.get("prompt", "").encode()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + everything.encode("utf-16-be")
    return exif


FORMATS: Mapping[str, ImageFormat] = {
    "png": ImageFormat("image/png", "png", _write_png),
    "webp": ImageFormat("image/webp", "webp", _write_webp),
    "jpeg": ImageFormat("image/jpeg", "jpg", _write_jpeg),
}
