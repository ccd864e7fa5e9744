"""How a model of the registry is shown."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from generation.models import DiffusionModel

DEFAULTS = ("width", "height", "num_inference_steps", "guidance_scale")
LIMITS = (*DEFAULTS, "num_images")


@extend_schema_serializer(component_name="ModelDefaults")
class DefaultsShape(serializers.Serializer[Any]):
    """What a request gets that leaves a member out."""

    width = serializers.IntegerField()
    height = serializers.IntegerField()
    num_inference_steps = serializers.IntegerField()
    guidance_scale = serializers.FloatField()


@extend_schema_serializer(component_name="ModelLimits")
class LimitsShape(DefaultsShape):
    """The most that a request may ask for."""

    num_images = serializers.IntegerField()


@extend_schema_serializer(component_name="Model")
class DiffusionModelSerializer(serializers.ModelSerializer[DiffusionModel]):
    """A model with what a request may ask of it."""

    url = serializers.HyperlinkedIdentityField(view_name="model-detail", lookup_field="slug")
    defaults = serializers.SerializerMethodField()
    limits = serializers.SerializerMethodField()
    schedulers = serializers.ListField(child=serializers.CharField())
    takes = serializers.SerializerMethodField()

    class Meta:
        model = DiffusionModel
        fields = ["slug", "name", "url", "is_default", "defaults", "limits", "schedulers", "takes"]

    def get_takes(self, model: DiffusionModel) -> dict[str, bool | None]:
        """Which pictures a request may begin with; null where that shows only when the model is loaded."""
        return asdict(model.abilities)

    @extend_schema_field(DefaultsShape)
    def get_defaults(self, model: DiffusionModel) -> dict[str, Any]:
        """What a request gets that leaves a member out."""
        return {name: getattr(model, f"default_{name}") for name in DEFAULTS}

    @extend_schema_field(LimitsShape)
    def get_limits(self, model: DiffusionModel) -> dict[str, Any]:
        """The most that a request may ask for."""
        return {name: getattr(model, f"max_{name}") for name in LIMITS}
