"""What the description of the API says about generations: shapes, examples, answers. Nothing here runs in a request."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    Direction,
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import serializers

from api.generations.serializers import GenerationSerializer
from api.inputs.schema import REFERENCE
from api.openapi import a_problem
from generation.lifecycle import STATUS_CHOICES, CancelReason
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


@extend_schema_field({"oneOf": [{"type": "string", "enum": list(CancelReason)}, {"type": "null"}]})
class Reason(serializers.Field[Any, Any, Any, Any]):
    """Why it was asked to end before its time; of a nullable choice drf-spectacular would lose the null."""


class GenerationShape(serializers.Serializer[Any]):
    """A generation as its owner sees it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUS_CHOICES)
    progress = ProgressShape()
    position = serializers.IntegerField(
        allow_null=True, min_value=1, help_text="1 for the next of its model to run; null unless it waits."
    )
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
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    cancel_reason = Reason()
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


MADE = [200, 201, 202]
LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=MADE, description="Its page."
)
ASK_AGAIN = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, response=MADE, description="When to look, in seconds; not if it ended."
)
PREFER = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`wait=30`: answer when it has ended, or after 30 s (RFC 7240)."
)
CANCEL_AFTER = OpenApiParameter(
    "Cancel-After", str, OpenApiParameter.HEADER, description="`30s`, `5m` or `1h30m`: `deadline_seconds` as a header."
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="With the same key the same request can be sent again and makes nothing twice.",
)
MOMENT_OR_BLANK = {"type": "string", "anyOf": [{"format": "date-time"}, {"maxLength": 0}]}  # forms send blanks
UUID_OR_BLANK = {"type": "string", "anyOf": [{"format": "uuid"}, {"maxLength": 0}]}
CONFLICT = {409: a_problem(409)}
KEY_REUSED = {422: a_problem(422)}
ENDED = OpenApiResponse(GenerationSerializer, "It has ended, and `Prefer` wanted to wait for that.")
EXAMPLES = [
    OpenApiExample("Only a prompt", {"prompt": "a red apple"}, request_only=True),
    OpenApiExample(
        "Everything stated",
        {
            "prompt": "a cat with sunglasses",
            "negative_prompt": "blurry",
            "width": 256,
            "height": 256,
            "num_inference_steps": 20,
            "guidance_scale": 4.5,
            "seed": 7,
            "num_images": 2,
            "scheduler": "ddim",
            "reproducible": True,
            "format": "webp",
            "priority": -1,
            "deadline_seconds": 600,
            "on_disconnect": "cancel",
            "webhook_url": "https://hooks.example.org/pictor",
            "webhook_events": ["started", "finished"],
        },
        request_only=True,
    ),
]

described = extend_schema_view(
    list=extend_schema(
        operation_id="list_generations",
        summary="List your generations",
        description="Your own, the newest first, in pages that stay put while new ones come in.",
        parameters=[
            OpenApiParameter(name, MOMENT_OR_BLANK, description=f"RFC 3339; those that were submitted {name[8:]} it.")
            for name in ("created_after", "created_before")
        ]
        + [OpenApiParameter("batch", UUID_OR_BLANK, description="The id of a batch.")],
    ),
    create=extend_schema(
        operation_id="submit_generation",
        summary="Submit a generation",
        parameters=[IDEMPOTENCY_KEY, PREFER, CANCEL_AFTER, LOCATION, ASK_AGAIN],
        responses={200: ENDED, 202: GenerationSerializer} | CONFLICT | KEY_REUSED,
        examples=EXAMPLES,
    ),
    update=extend_schema(
        operation_id="put_generation",
        summary="Submit a generation under an id of your own",
        parameters=[PREFER, CANCEL_AFTER, LOCATION, ASK_AGAIN],
        responses={
            200: OpenApiResponse(GenerationSerializer, "That was done before, or it has ended while you waited."),
            201: GenerationSerializer,
            202: OpenApiResponse(GenerationSerializer, "It has not ended in the time that you wanted to wait."),
        }
        | CONFLICT
        | KEY_REUSED,
        examples=EXAMPLES,
    ),
    retrieve=extend_schema(operation_id="look_at_generation", summary="Look at a generation", parameters=[PREFER]),
    destroy=extend_schema(
        operation_id="delete_generation", summary="Delete a finished generation", responses={204: None} | CONFLICT
    ),
    cancel=extend_schema(
        operation_id="cancel_generation",
        summary="Cancel a generation",
        request=None,
        responses={
            200: OpenApiResponse(GenerationSerializer, "It is cancelled, now or before."),
            202: OpenApiResponse(GenerationSerializer, "It runs; its worker was asked to stop."),
        }
        | CONFLICT,
    ),
    retry=extend_schema(
        operation_id="retry_generation",
        summary="Submit the same once more",
        request=None,
        parameters=[PREFER, LOCATION, ASK_AGAIN],
        responses={200: ENDED, 202: GenerationSerializer} | CONFLICT,
    ),
)

RANGE = OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="`bytes=0-1023`: a part of it.")
IF_NONE_MATCH = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The `ETag` you have.")


def an_image(*media_types: str, operation_id: str, summary: str) -> Any:
    """The declaration of an endpoint that answers with the bytes of an image."""
    whole = {(200, media_type): OpenApiTypes.BINARY for media_type in media_types}
    part = {(206, media_type): OpenApiTypes.BINARY for media_type in media_types}
    others = {
        302: OpenApiResponse(description="A short-lived link to it, where images are delivered by redirect."),
        304: OpenApiResponse(description="You have it already."),
        416: a_problem(416),
    }
    return extend_schema(
        operation_id=operation_id, summary=summary, parameters=[RANGE, IF_NONE_MATCH], responses=whole | part | others
    )
