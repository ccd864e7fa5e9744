"""The input of an app, as fal's apps for images commonly have it."""

from typing import Any

from rest_framework import serializers

from api.dialects.lenient import LenientInput
from api.dialects.shapes import AspectRatioField

SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
FORMATS = ("png", "jpeg", "webp")


class SizeField(serializers.Field[Any, Any, Any, Any]):
    """A name of `SIZES`, or an object with `width` and `height`; becomes a pair."""

    def to_internal_value(self, data: Any) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(data, str) and data in SIZES:
            return SIZES[data]
        if isinstance(data, dict) and all(type(data.get(name)) is int for name in ("width", "height")):
            return data["width"], data["height"]
        raise serializers.ValidationError(f"Give width and height, or one of: {', '.join(SIZES)}.")

    def to_representation(self, value: Any) -> Any:
        """Never shown."""
        return value


class AppInput(LenientInput):
    """The body of a request; other names are ignored, as fal's apps do."""

    prompt = serializers.CharField()
    negative_prompt = serializers.CharField(required=False, allow_blank=True, allow_null=True)
    image_size = SizeField(required=False, allow_null=True)
    aspect_ratio = AspectRatioField(required=False, allow_null=True)
    num_images = serializers.IntegerField(required=False, allow_null=True)
    num_inference_steps = serializers.IntegerField(required=False, allow_null=True)
    guidance_scale = serializers.FloatField(required=False, allow_null=True)
    seed = serializers.IntegerField(required=False, allow_null=True)
    scheduler = serializers.CharField(required=False, allow_null=True)
    strength = serializers.FloatField(required=False, allow_null=True)
    image_url = serializers.CharField(required=False, allow_null=True)
    mask_url = serializers.CharField(required=False, allow_null=True)
    image_urls = serializers.ListField(child=serializers.CharField(), required=False, allow_null=True)
    output_format = serializers.ChoiceField(choices=FORMATS, required=False, allow_null=True)
