"""The size of a picture whose shape is named: `16:9`, at as many pixels as the model draws by itself."""

import re
from math import sqrt
from typing import Any

from rest_framework import serializers

from generation.models import DiffusionModel
from generation.models.diffusion_model import SIZE_MULTIPLE
from generation.parameters import MIN_SIZE

RATIO = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)", re.ASCII)
NO_SHAPES = ("custom", "match_input_image")  # what some models offer besides: the size is told otherwise


class AspectRatioField(serializers.CharField):
    """Width to height, as `16:9`; becomes a pair of numbers, and None for the words of `NO_SHAPES`."""

    def to_internal_value(self, data: Any) -> tuple[int, int] | None:  # type: ignore[override]  # no text comes out
        """The two numbers."""
        text = super().to_internal_value(data)
        if text in NO_SHAPES:
            return None
        match = RATIO.fullmatch(text)
        if match is None:
            raise serializers.ValidationError("Give width to height, as in 16:9.")
        return int(match[1]), int(match[2])


def size_of(ratio: tuple[int, int], model: DiffusionModel) -> tuple[int, int]:
    """Width and height in pixels."""
    pixels = model.default_width * model.default_height
    width, height = sqrt(pixels * ratio[0] / ratio[1]), sqrt(pixels * ratio[1] / ratio[0])
    scale = min(1, model.max_width / width, model.max_height / height)
    fitted = [max(MIN_SIZE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in (width, height)]
    return fitted[0], fitted[1]
