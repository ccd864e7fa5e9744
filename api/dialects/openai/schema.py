"""The requests of OpenAI's Images API, and what of Pictor's can be asked for besides."""

from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

QUALITIES = ("auto", "low", "medium", "standard", "high", "hd", "xhigh", "max")
FORMATS = ("png", "webp", "jpeg")
MOST_PARTIAL_IMAGES = 3


class ImageRequest(serializers.Serializer[dict[str, Any]]):
    """What both endpoints take. Names that neither has are refused, as OpenAI does."""

    prompt = serializers.CharField()
    model = serializers.CharField(required=False, allow_null=True)
    n = serializers.IntegerField(required=False, allow_null=True, min_value=1)
    size = serializers.RegexField(r"^(auto|[0-9]{1,5}x[0-9]{1,5})$", required=False, allow_null=True)
    quality = serializers.ChoiceField(choices=QUALITIES, required=False, allow_null=True)
    background = serializers.ChoiceField(choices=("auto", "opaque"), required=False, allow_null=True)
    output_format = serializers.ChoiceField(choices=FORMATS, required=False, allow_null=True)
    response_format = serializers.ChoiceField(choices=("b64_json", "url"), required=False, allow_null=True)
    stream = serializers.BooleanField(required=False, allow_null=True)
    partial_images = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MOST_PARTIAL_IMAGES
    )

    # Taken and without effect: nothing is moderated here, and files have one quality.
    moderation = serializers.CharField(required=False, allow_null=True)
    style = serializers.CharField(required=False, allow_null=True)  # type: ignore[assignment]
    user = serializers.CharField(required=False, allow_null=True)
    safety_identifier = serializers.CharField(required=False, allow_null=True)
    complexity = serializers.CharField(required=False, allow_null=True)
    output_compression = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=100)

    # Pictor's own, by `extra_body`.
    negative_prompt = serializers.CharField(required=False, allow_blank=True)
    num_inference_steps = serializers.IntegerField(required=False)
    guidance_scale = serializers.FloatField(required=False)
    seed = serializers.IntegerField(required=False)
    scheduler = serializers.CharField(required=False)
    reproducible = serializers.BooleanField(required=False)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The members that were sent and are not null; raises ValidationError for one that does not exist."""
        values = super().to_internal_value(data)
        known = {name.removesuffix("[]") for name in data} - set(self.fields)
        if known:
            raise ValidationError(
                {name: ErrorDetail(f"Unknown parameter: '{name}'.", code="unknown_parameter") for name in sorted(known)}
            )
        return {name: value for name, value in values.items() if value is not None}


class EditRequest(ImageRequest):
    """The form of `images/edits`: one `image`, or several as `image[]`."""

    image = serializers.ListField(child=serializers.FileField(), allow_empty=False)
    mask = serializers.FileField(required=False)
    strength = serializers.FloatField(required=False)
    input_fidelity = serializers.CharField(required=False, allow_null=True)  # without effect

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The same, with all images under one name."""
        if not isinstance(data, QueryDict):  # DRF's word for no body at all
            data = QueryDict()
        files = [file for name in ("image", "image[]") for file in data.getlist(name)]
        form = {name: data[name] for name in data if name not in ("image", "image[]")}
        return super().to_internal_value(form | ({"image": files} if files else {}))
