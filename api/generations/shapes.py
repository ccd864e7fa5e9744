"""The shapes of requests and of generations, for the description of the API. Nothing here runs in a request."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from api.inputs.schema import REFERENCE
from generation.lifecycle import STATUS_CHOICES, CancelReason, SeenBy
from generation.models.diffusion_model import SIZE_MULTIPLE
from generation.models.generation import MAX_SEED
from generation.models.webhook import Kind
from generation.parameters import IMAGE_FORMATS, MAX_REFERENCE_IMAGES, MIN_SIZE
from generation.terms import LONGEST_DEADLINE_SECONDS, SHORTEST_DEADLINE_SECONDS

NO_NUL = r"^[^\x00]*$"
SIZE = {"minimum": MIN_SIZE, "multipleOf": SIZE_MULTIPLE}
# What holds whatever the model; /api/models/ has each model's own limits, which are narrower.
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "prompt": {"minLength": 1, "maxLength": settings.MAX_PROMPT_LENGTH, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    "negative_prompt": {"maxLength": settings.MAX_PROMPT_LENGTH, "pattern": NO_NUL},
    "width": SIZE,
    "height": SIZE,
    "num_inference_steps": {"minimum": 1, "maximum": 1000},
    "guidance_scale": {"minimum": 0},
    "seed": {"minimum": 0, "maximum": MAX_SEED},
    "num_images": {"minimum": 1},
    "reference_images": {"maxItems": MAX_REFERENCE_IMAGES},
    "strength": {"exclusiveMinimum": 0, "maximum": 1},
    "deadline_seconds": {"minimum": SHORTEST_DEADLINE_SECONDS, "maximum": LONGEST_DEADLINE_SECONDS},
    "webhook_url": {"format": "uri"},
}


class RequestShape(OpenApiSerializerExtension):
    """The request, with what the domain checks: the serializer itself leaves that to it."""

    target_class = "api.generations.serializers.GenerationRequestSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the body."""
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        for name in CONSTRAINTS.keys() & schema["properties"].keys():
            schema["properties"][name] |= CONSTRAINTS[name]
        return schema | {"additionalProperties": False}


@extend_schema_serializer(component_name="Progress")
class ProgressShape(serializers.Serializer[Any]):
    """How far it has got."""

    step = serializers.IntegerField(min_value=0, help_text="Denoise steps done.")
    total = serializers.IntegerField(min_value=0, help_text="Of how many.")
    fraction = serializers.FloatField(min_value=0, max_value=1)


@extend_schema_serializer(component_name="Image")
class ImageShape(serializers.Serializer[Any]):
    """One of its images."""

    index = serializers.IntegerField(min_value=0)
    seed = serializers.IntegerField(help_text="The seed that draws this very image alone.")
    url = serializers.URLField()
    thumbnail = serializers.URLField(help_text="A small WebP of it.")
    content_type = serializers.CharField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


@extend_schema_serializer(component_name="GenerationError")
class ErrorShape(serializers.Serializer[Any]):
    """Why it failed."""

    code = serializers.CharField(help_text="For programs.")
    detail = serializers.CharField(help_text="For people.")


@extend_schema_serializer(component_name="Links")
class LinksShape(serializers.Serializer[Any]):
    """Where to go on."""

    self = serializers.URLField()
    events = serializers.URLField(help_text="Live events of it.")
    cancel = serializers.URLField()
    retry = serializers.URLField()
    images = serializers.ListField(child=serializers.URLField(), help_text="Where its images are or will be.")


@extend_schema_field(REFERENCE)
class Reference(serializers.Field[Any, Any, Any, Any]):
    """A picture that it begins with."""


# Of a nullable choice drf-spectacular would lose the null.
@extend_schema_field({"oneOf": [{"type": "string", "enum": list(CancelReason)}, {"type": "null"}]})
class Reason(serializers.Field[Any, Any, Any, Any]):
    """Why it was asked to end before its time."""


@extend_schema_field({"oneOf": [{"type": "string", "enum": list(SeenBy)}, {"type": "null"}]})
class Way(serializers.Field[Any, Any, Any, Any]):
    """By which way it was seen that it had to stop."""


@extend_schema_serializer(component_name="Likely")
class LikelyShape(serializers.Serializer[Any]):
    """Seconds from now: half of such estimates are kept by p50, nine tenths by p90."""

    p50 = serializers.FloatField(min_value=0)
    p90 = serializers.FloatField(min_value=0)


@extend_schema_serializer(component_name="Estimate")
class EstimateShape(serializers.Serializer[Any]):
    """When it is likely to start and to end, going by the runs before it."""

    starts_in_seconds = LikelyShape()
    finishes_in_seconds = LikelyShape()


@extend_schema_serializer(component_name="Cancelled")
class CancelledShape(serializers.Serializer[Any]):
    """What a cancel of many has done."""

    cancelled = serializers.IntegerField(min_value=0, help_text="So many ended there and then.")
    stopping = serializers.IntegerField(min_value=0, help_text="The workers of so many were asked to stop.")


class GenerationShape(serializers.Serializer[Any]):
    """A generation as its owner sees it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUS_CHOICES)
    progress = ProgressShape()
    position = serializers.IntegerField(
        allow_null=True, min_value=1, help_text="1 for the next of its model to run; null unless it waits."
    )
    estimate = EstimateShape(allow_null=True, help_text="Null once it has ended, and while nothing is known.")
    images = ImageShape(many=True, help_text="Once it has succeeded.")
    error = ErrorShape(allow_null=True)
    model = serializers.CharField(help_text="The model's slug.")
    prompt = serializers.CharField()
    negative_prompt = serializers.CharField(allow_blank=True)
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    num_inference_steps = serializers.IntegerField()
    guidance_scale = serializers.FloatField()
    seed = serializers.IntegerField(help_text="Image i is drawn from seed + i.")
    num_images = serializers.IntegerField()
    scheduler = serializers.CharField(allow_blank=True, help_text="Empty: the model's own.")
    image = Reference(allow_null=True, help_text="The picture that it redraws.")
    mask = Reference(allow_null=True)
    reference_images = serializers.ListField(child=Reference())
    strength = serializers.FloatField(allow_null=True)
    reproducible = serializers.BooleanField()
    format = serializers.ChoiceField(choices=IMAGE_FORMATS)
    priority = serializers.IntegerField(min_value=-1, max_value=1)
    attempts = serializers.IntegerField(min_value=0, help_text="How often a worker has begun with it.")
    resumed_from_step = serializers.IntegerField(
        allow_null=True,
        min_value=1,
        help_text="The step that the latest attempt went on from, if there was one before.",
    )
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    cancel_reason = Reason()
    cancelled_at = serializers.DateTimeField(allow_null=True)
    cancel_seen_by = Way()
    device_freed_at = serializers.DateTimeField(allow_null=True, help_text="When a cancelled one had left its device.")
    expired_at = serializers.DateTimeField(
        allow_null=True, help_text="When its images were removed, for they were old."
    )
    webhook_url = serializers.CharField(allow_null=True)
    webhook_events = serializers.ListField(child=serializers.ChoiceField(choices=list(Kind)), allow_null=True)
    deadline_at = serializers.DateTimeField(allow_null=True)
    batch = serializers.UUIDField(allow_null=True)
    links = LinksShape()


class ResponseShape(OpenApiSerializerExtension):
    """A generation; its serializer has no fields of its own, to be quick."""

    target_class = "api.generations.serializers.GenerationSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the answer."""
        schema: dict[str, Any] = auto_schema._map_serializer(GenerationShape(), direction)
        return schema
