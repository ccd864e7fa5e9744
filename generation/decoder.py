"""A program of its own that turns the file of a picture from outside into a plain PNG, or says why not.

It reads the file from its standard input. It knows nothing of Pictor, has no secrets in its environment, and may use
only so much memory and time: what goes wrong in a decoder, or is made to go wrong, ends here. `uploads` starts it.
"""

import json
import re
import resource
import sys
import warnings
from io import BytesIO

from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

REFUSED = 3
SMALLEST_SIDE = 16
CPU_SECONDS = 20
BASE_BYTES, BYTES_PER_PIXEL = 400 * 1024**2, 20  # the interpreter; several copies of four bytes each
PLUGINS = (PngImagePlugin, JpegImagePlugin, MpoImagePlugin, WebPImagePlugin)  # now, as later no file may be opened
GREY_16_BIT = ("I", "I;16", "I;16B", "I;16L")
JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not stuffing, filling or restarting


class Refusal(Exception):
    """The picture is not taken; the message says why and what to do."""


def main(max_pixels: int, kind: str) -> int:
    """Decode standard input to standard output: a line of JSON, then the PNG."""
    limit_resources(max_pixels)
    try:
        picture = decode(sys.stdin.buffer.read(), max_pixels=max_pixels, is_alpha_mask=kind == "alpha-mask")
    except Refusal as refusal:
        sys.stdout.write(json.dumps({"refusal": str(refusal)}))
        return REFUSED
    sys.stdout.write(json.dumps({"width": picture.width, "height": picture.height}) + "\n")
    sys.stdout.flush()
    picture.save(sys.stdout.buffer, "PNG", compress_level=1)
    return 0


def limit_resources(max_pixels: int) -> None:
    """From now on: so much memory and time, no new processes, nothing written to disk, no traces of memory."""
    limits = {
        resource.RLIMIT_AS: BASE_BYTES + BYTES_PER_PIXEL * max_pixels,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def decode(data: bytes, *, max_pixels: int, is_alpha_mask: bool) -> Image.Image:
    """The upright pixels and nothing else, as L, RGB or RGBA. Raises Refusal."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # what is too large is refused below, by a limit of our own
    try:
        picture = Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except Exception as error:
        raise Refusal("It is no whole picture in the format PNG, JPEG or WebP. Convert it to one of them.") from error
    check_size(picture, max_pixels=max_pixels)
    check_frames(picture)
    check_end(data, picture.format or "")
    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        pixels = plain(upright)
    except MemoryError as error:
        raise Refusal("Decoding it takes more memory than a picture of its size should. Save it anew.") from error
    except Exception as error:
        raise Refusal("It is damaged or cut off: it cannot be decoded. Save it anew, then send it again.") from error
    return alpha_mask(pixels) if is_alpha_mask else pixels


def check_size(picture: Image.Image, *, max_pixels: int) -> None:
    """Look at the size that the header tells, before anything is decoded."""
    width, height = picture.size
    if width * height > max_pixels:
        raise Refusal(f"{width} x {height} pixels are too many: at most {max_pixels}. Scale it down.")
    if min(width, height) < SMALLEST_SIDE:
        raise Refusal(f"{width} x {height} pixels are too few: each side needs {SMALLEST_SIDE}.")


def check_frames(picture: Image.Image) -> None:
    """One picture is wanted; the further ones in a camera's JPEG are no animation, and are left out."""
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise Refusal("It is animated. Send a single picture.")


def check_end(data: bytes, file_format: str) -> None:
    """The file has to end where the picture does: what comes behind it is for somebody else to read."""
    ends = {"PNG": end_of_png, "WEBP": end_of_webp, "JPEG": end_of_jpegs, "MPO": end_of_jpegs}
    end = ends[file_format](data)
    if end is None or end > len(data):
        raise Refusal("It is cut off before its end. Send the whole file.")
    if data[end:].strip(b"\0"):
        raise Refusal(f"There is something else behind the picture, from byte {end} on. Save it anew.")


def end_of_png(data: bytes) -> int | None:
    """Where the chunk IEND ends, or None if there is none (PNG 3, 5.3)."""
    place = 8
    while place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        place += 12 + length
        if kind == b"IEND":
            return place
    return None


def end_of_webp(data: bytes) -> int:
    """Where the RIFF container says that it ends."""
    length = int.from_bytes(data[4:8], "little")
    return 8 + length + length % 2


def end_of_jpegs(data: bytes) -> int | None:
    """Where the last JPEG in a row ends: cameras append depth and brightness maps as further ones."""
    place: int | None = 0
    while place is not None and data[place : place + 2] == b"\xff\xd8":
        place = end_of_jpeg(data, place)
    return place


def end_of_jpeg(data: bytes, start: int) -> int | None:
    """Where the JPEG that starts there ends, or None if it does not (ITU T.81, B.1)."""
    place = start + 2
    while match := JPEG_MARKER.search(data, place):
        place = match.end()
        if match[0] == b"\xff\xd9":
            return place
        if match[0] != b"\xff\x01":
            place += int.from_bytes(data[place : place + 2])
    return None


def plain(picture: Image.Image) -> Image.Image:
    """8 bits per channel, in sRGB, without anything beside the pixels."""
    profile = picture.info.get("icc_profile")
    if picture.mode in GREY_16_BIT:
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if profile and picture.mode in ("RGB", "RGBA", "CMYK"):
        picture = in_srgb(picture, profile)
    has_alpha = picture.has_transparency_data
    pixels = picture.convert("RGBA" if has_alpha else "L" if picture.mode in ("1", "L") else "RGB")
    pixels.info = {}  # or the PNG would hold the profile
    return pixels


def in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Its colours in sRGB; as they are if the profile makes no sense."""
    mode = "RGB" if picture.mode == "CMYK" else picture.mode
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode) or picture
    except (ImageCms.PyCMSError, OSError):
        return picture


def alpha_mask(picture: Image.Image) -> Image.Image:
    """White where the picture is transparent, black where it is opaque."""
    if picture.mode != "RGBA":
        raise Refusal(
            "The mask has no transparency, so it does not say where to paint. Send one with an alpha channel."
        )
    return picture.getchannel("A").point(lambda alpha: 255 - alpha)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
