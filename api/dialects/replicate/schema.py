"""The requests of Replicate's predictions API, and the inputs that our models have."""

from typing import Any

from rest_framework import serializers

from api.dialects.lenient import LenientInput
from api.dialects.shapes import AspectRatioField

FORMATS = ("png", "webp", "jpeg", "jpg")
EVENTS = ("start", "output", "logs", "completed")


class Input(LenientInput):
    """What Replicate's models for images commonly take. Other names are ignored, as Replicate does."""

    prompt = serializers.CharField()
    negative_prompt = serializers.CharField(required=False, allow_blank=True, allow_null=True)
    image = serializers.CharField(required=False, allow_null=True)
    mask = serializers.CharField(required=False, allow_null=True)
    reference_images = serializers.ListField(child=serializers.CharField(), required=False)
    prompt_strength = serializers.FloatField(required=False, allow_null=True)
    strength = serializers.FloatField(required=False, allow_null=True)
    width = serializers.IntegerField(required=False, allow_null=True)
    height = serializers.IntegerField(required=False, allow_null=True)
    aspect_ratio = AspectRatioField(required=False, allow_null=True)
    num_outputs = serializers.IntegerField(required=False, allow_null=True)
    num_inference_steps = serializers.IntegerField(required=False, allow_null=True)
    guidance_scale = serializers.FloatField(required=False, allow_null=True)
    guidance = serializers.FloatField(required=False, allow_null=True)  # as FLUX has it
    seed = serializers.IntegerField(required=False, allow_null=True)
    scheduler = serializers.CharField(required=False, allow_null=True)
    output_format = serializers.ChoiceField(choices=FORMATS, required=False, allow_null=True)


def properties() -> dict[str, dict[str, Any]]:
    """What an input may hold, as JSON Schema, for who asks a version what it takes."""
    return {
        name: {"title": name.replace("_", " ").capitalize(), "x-order": order, **type_of(field)}
        for order, (name, field) in enumerate(Input().fields.items())
    }


def type_of(field: serializers.Field[Any, Any, Any, Any]) -> dict[str, Any]:
    """The JSON Schema of one member."""
    match field:
        case serializers.ChoiceField():
            return {"type": "string", "enum": list(field.choices)}
        case serializers.IntegerField():
            return {"type": "integer"}
        case serializers.FloatField():
            return {"type": "number"}
        case serializers.ListField():
            return {"type": "array", "items": {"type": "string"}}
        case _:
            return {"type": "string"}


class PredictionRequest(serializers.Serializer[dict[str, Any]]):
    """The body of a new prediction. `stream` is taken: every prediction has a stream here."""

    input = Input()
    version = serializers.CharField(required=False, allow_null=True)
    webhook = serializers.CharField(required=False, allow_null=True)
    webhook_events_filter = serializers.ListField(
        child=serializers.ChoiceField(choices=EVENTS), required=False, allow_null=True
    )


class FileRequest(serializers.Serializer[dict[str, Any]]):
    """The form of a file."""

    content = serializers.FileField()
