"""What the description of the API says about inputs. Nothing here runs in a request."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    Direction,
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import serializers

from api.inputs.fields import MAX_INDEX
from api.inputs.serializers import InputSerializer, UploadSerializer

REFERENCE: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "format": "uuid", "description": "The id of an input."},
        {
            "type": "object",
            "description": "An image of an earlier generation.",
            "properties": {
                "generation": {"type": "string", "format": "uuid"},
                "index": {"type": "integer", "minimum": 0, "maximum": MAX_INDEX, "default": 0},
            },
            "required": ["generation"],
            "additionalProperties": False,
        },
    ]
}


class PictureShape(OpenApiSerializerFieldExtension):
    """A picture in JSON: a file takes a form."""

    target_class = "api.inputs.fields.PictureField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the member."""
        return REFERENCE


class UploadShape(OpenApiSerializerExtension):
    """The form of an upload; by itself a file would be described as in an answer, by its URL."""

    target_class = "api.inputs.serializers.UploadSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the body."""
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        schema["properties"]["file"] |= {"format": "binary"}
        return schema


@extend_schema_serializer(component_name="InputLinks")
class LinksShape(serializers.Serializer[Any]):
    """Where to go on."""

    self = serializers.URLField()
    file = serializers.URLField(help_text="The picture itself.")


class InputShape(serializers.Serializer[Any]):
    """An input as its owner sees it; it stays after `expires_at` as long as a generation has it."""

    id = serializers.UUIDField()
    content_type = serializers.CharField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    links = LinksShape()


class ResponseShape(OpenApiSerializerExtension):
    """An input; its serializer has no fields of its own."""

    target_class = "api.inputs.serializers.InputSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """The schema of the answer."""
        schema: dict[str, Any] = auto_schema._map_serializer(InputShape(), direction)
        return schema


LOCATION = OpenApiParameter(
    "Location", OpenApiTypes.URI, OpenApiParameter.HEADER, response=[201], description="Its page."
)
FORM = "multipart/form-data"

described = extend_schema_view(
    list=extend_schema(
        operation_id="list_inputs", summary="List your inputs", description="Those that can be asked for, newest first."
    ),
    create=extend_schema(
        operation_id="upload_input",
        summary="Upload a picture to begin with",
        request={FORM: UploadSerializer},
        parameters=[LOCATION],
        responses={201: InputSerializer},
        examples=[OpenApiExample("A file", {"file": "apple.png"}, media_type=FORM, request_only=True)],
    ),
    retrieve=extend_schema(operation_id="look_at_input", summary="Look at an input"),
)
