"""Files of pictures, and of what only looks like one, for tests of uploads."""

import io
import random
import struct
import zlib
from typing import Any

from PIL import Image


def encode(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def make(mode: str = "RGB", *, size: tuple[int, int] = (64, 48), colour: Any = None) -> Image.Image:
    """A picture of one colour."""
    return Image.new(mode, size, colour if colour is not None else "crimson" if mode == "RGB" else 200)


def png(**wishes: Any) -> bytes:
    """A small PNG."""
    return encode(make(**wishes), "PNG")


def noise(*, size: tuple[int, int]) -> bytes:
    """A PNG of about as many bytes as it has in memory, as photos come close to."""
    return encode(Image.frombytes("RGB", size, random.Random(1).randbytes(3 * size[0] * size[1])), "PNG")


def halves(*, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A mask: the left half black, the right half white."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (size[0] // 2, 0, *size))
    return mask


def bomb(*, side: int = 50_000) -> bytes:
    """A PNG of few bytes that says it has billions of pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def animated(file_format: str) -> bytes:
    """Two frames."""
    return encode(make(), file_format, save_all=True, append_images=[make(colour="navy")])
