"""The pixels that a generation begins with, on their way from the storage to its worker."""

import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image as Picture

from generation import storage
from generation.models import Generation, GenerationInput, Image, Role

if TYPE_CHECKING:
    import numpy as np


class InputLost(Exception):
    """A picture that a generation begins with is no longer there; the message says which."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What an engine takes: uint8 (height, width, 3), the mask (height, width)."""

    image: "np.ndarray | None" = None
    mask: "np.ndarray | None" = None
    references: "tuple[np.ndarray, ...]" = ()


def fetch(generation: Generation) -> Pixels:
    """The pixels that the generation begins with. Raises InputLost, or StorageUnavailable."""
    if not generation.has_inputs:
        return Pixels()
    by_role: dict[str, list[Picture.Image]] = {role: [] for role in Role}
    for use in generation.inputs.select_related("input"):
        by_role[use.role].append(open_picture(use))
    return Pixels(
        image=next((as_rgb(picture) for picture in by_role[Role.IMAGE]), None),
        mask=next((as_mask(picture) for picture in by_role[Role.MASK]), None),
        references=tuple(as_rgb(picture) for picture in by_role[Role.REFERENCE]),
    )


def open_picture(use: GenerationInput) -> Picture.Image:
    """One picture from the storage, decoded: we have written it ourselves."""
    name = name_on_storage(use)
    for pause in (*storage.PAUSES_BETWEEN_TRIES_SECONDS, None):
        try:
            picture = Picture.open(BytesIO(storage.read(name)), formats=("PNG", "JPEG", "WEBP"))
            picture.load()
            return picture
        except FileNotFoundError as error:
            raise InputLost(f"The file of {use.role} is no longer on the storage.") from error
        except Exception as error:  # each backend has its own errors, and all of them mean the same here
            if pause is None:
                raise storage.StorageUnavailable(f"The storage did not give {name}: {error}") from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def name_on_storage(use: GenerationInput) -> str:
    """Where the file lies; raises InputLost for an earlier result that was deleted."""
    if use.input is not None:
        return str(use.input.file.name)
    images = Image.objects.filter(generation=use.earlier_generation_id, index=use.earlier_index or 0)
    image = images.filter(sha256=use.sha256).first()  # for after a delete anybody may take the id for another one
    if image is None:
        raise InputLost(f"{use.role} was a result of generation {use.earlier_generation_id}, now deleted.")
    return str(image.file.name)


def as_rgb(picture: Picture.Image) -> "np.ndarray":
    """Its colours, over white where it is transparent."""
    import numpy as np  # heavy, and only workers come here

    if picture.mode == "RGBA":
        white = Picture.new("RGBA", picture.size, "white")
        picture = Picture.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def as_mask(picture: Picture.Image) -> "np.ndarray":
    """255 where it is bright, which is where to paint, else 0; what is transparent is dark."""
    import numpy as np

    if picture.mode == "RGBA":
        black = Picture.new("RGBA", picture.size, "black")
        picture = Picture.alpha_composite(black, picture)
    return np.where(np.asarray(picture.convert("L")) > 127, 255, 0).astype(np.uint8)


def digests_of(generation: Generation) -> list[dict[str, str]]:
    """The part and the SHA-256 of each picture that it began with."""
    if not generation.has_inputs:
        return []
    return [{"role": use.role, "sha256": use.sha256} for use in generation.inputs.all()]
