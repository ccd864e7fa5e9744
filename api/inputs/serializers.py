"""What an upload looks like, and how an input is shown."""

from typing import Any

from rest_framework import serializers

from api.generations.serializers import in_iso_8601, link
from generation.models import Input
from generation.sources import Upload


class UploadSerializer(serializers.Serializer[Upload]):
    """The body of `POST /api/inputs/`: a form with one file."""

    file = serializers.FileField(help_text="A picture as PNG, JPEG or WebP.")

    def to_internal_value(self, data: Any) -> Upload:
        """Return the bytes; nothing is looked at yet."""
        return Upload(super().to_internal_value(data)["file"].read())


class InputSerializer(serializers.Serializer[Input]):
    """An input as its owner sees it; it stays after `expires_at` as long as a generation has it."""

    def to_representation(self, stored: Input) -> dict[str, Any]:
        """All that there is to know about it."""
        request = self.context["request"]
        return {
            "id": str(stored.pk),
            "content_type": stored.content_type,
            "width": stored.width,
            "height": stored.height,
            "size_bytes": stored.size_bytes,
            "sha256": stored.sha256,
            "created_at": in_iso_8601(stored.created_at),
            "expires_at": in_iso_8601(stored.expires_at),
            "links": {
                "self": link(request, "input-detail", stored.pk),
                "file": link(request, "input-file", stored.pk),
            },
        }
