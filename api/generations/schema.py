"""What the description of the API says about generations: examples, answers. Nothing here runs in a request."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)

from api.generations.attempts import AttemptSerializer
from api.generations.serializers import GenerationSerializer
from api.generations.shapes import CancelledShape
from api.openapi import a_problem
from generation.lifecycle import Status

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
    attempts=extend_schema(
        operation_id="list_attempts",
        summary="List the attempts of a generation",
        responses=AttemptSerializer(many=True),
        filters=False,
    ),
    cancel_all=extend_schema(
        operation_id="cancel_generations",
        summary="Cancel all of yours, or those of a model or a status",
        responses=CancelledShape,
        examples=[OpenApiExample("Only what waits", {"status": Status.QUEUED.value}, request_only=True)],
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
