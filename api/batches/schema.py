"""What the description of the API says about batches. Nothing here runs in a request."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    Direction,
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import serializers

from api.batches.serializers import BatchSerializer
from api.generations.schema import (
    ASK_AGAIN,
    CANCEL_AFTER,
    CONFLICT,
    IDEMPOTENCY_KEY,
    KEY_REUSED,
    LOCATION,
)
from api.generations.shapes import ProgressShape
from generation.lifecycle import STATUS_CHOICES, Status
from generation.submission import LARGEST_BATCH


class RequestShape(OpenApiSerializerExtension):
    """The request, with what the domain checks."""

    target_class = "api.batches.serializers.BatchRequestSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the body."""
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema["properties"]["requests"] |= {"minItems": 1, "maxItems": LARGEST_BATCH}
        return schema | {"additionalProperties": False}


CountsShape = extend_schema_serializer(component_name="BatchCounts")(
    type(
        "CountsShape",
        (serializers.Serializer,),
        {str(status): serializers.IntegerField(min_value=0) for status in Status},
    )
)


@extend_schema_serializer(component_name="BatchMember")
class MemberShape(serializers.Serializer[Any]):
    """One of its generations."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUS_CHOICES)
    url = serializers.URLField()


@extend_schema_serializer(component_name="BatchLinks")
class LinksShape(serializers.Serializer[Any]):
    """Where to go on."""

    self = serializers.URLField()
    cancel = serializers.URLField()
    generations = serializers.URLField(help_text="Its generations in full, in pages.")


class BatchShape(serializers.Serializer[Any]):
    """A batch as its owner sees it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=STATUS_CHOICES, help_text="Of all of them together.")
    progress = ProgressShape()
    size = serializers.IntegerField(min_value=1, help_text="How many it was submitted with.")
    counts = CountsShape(help_text="How many are where; deleted ones count no more.")
    generations = MemberShape(many=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = LinksShape()


class ResponseShape(OpenApiSerializerExtension):
    """A batch; its serializer has no fields of its own."""

    target_class = "api.batches.serializers.BatchSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the answer."""
        schema: dict[str, Any] = auto_schema._map_serializer(BatchShape(), direction)
        return schema


EXAMPLE = OpenApiExample(
    "Two prompts",
    {"requests": [{"prompt": "a red apple"}, {"prompt": "a blue whale", "num_images": 2}]},
    request_only=True,
)

described = extend_schema_view(
    list=extend_schema(
        operation_id="list_batches", summary="List your batches", description="Your own, the newest first."
    ),
    create=extend_schema(
        operation_id="submit_batch",
        summary="Submit several generations, all or none",
        parameters=[IDEMPOTENCY_KEY, CANCEL_AFTER, LOCATION, ASK_AGAIN],
        responses={202: BatchSerializer} | CONFLICT | KEY_REUSED,
        examples=[EXAMPLE],
    ),
    retrieve=extend_schema(operation_id="look_at_batch", summary="Look at a batch"),
    cancel=extend_schema(
        operation_id="cancel_batch",
        summary="Cancel all of a batch that has not ended",
        request=None,
        responses={
            200: OpenApiResponse(BatchSerializer, "All of it has ended."),
            202: OpenApiResponse(BatchSerializer, "Some of it runs; the workers were asked to stop."),
        },
    ),
)
