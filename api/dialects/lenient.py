"""The input of a model where the dialect ignores what it does not know."""

from typing import Any

from rest_framework import serializers


class LenientInput(serializers.Serializer[dict[str, Any]]):
    """Names that are not known are ignored, and null is the same as nothing."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The members that are known and not null."""
        values = super().to_internal_value(data)
        return {name: value for name, value in values.items() if value is not None}
