"""How a model of the registry is shown."""

from typing import Any

from rest_framework import serializers

from generation.models import DiffusionModel

DEFAULTS = ("width", "height", "num_inference_steps", "guidance_scale")
LIMITS = (*DEFAULTS, "num_images")


class DiffusionModelSerializer(serializers.ModelSerializer[DiffusionModel]):
    """A model with what a request may ask of it."""

    url = serializers.HyperlinkedIdentityField(view_name="model-detail", lookup_field="slug")
    defaults = serializers.SerializerMethodField()
    limits = serializers.SerializerMethodField()
    schedulers = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = DiffusionModel
        fields = ["slug", "name", "url", "is_default", "defaults", "limits", "schedulers"]

    def get_defaults(self, model: DiffusionModel) -> dict[str, Any]:
        """What a request gets that leaves a member out."""
        return {name: getattr(model, f"default_{name}") for name in DEFAULTS}

    def get_limits(self, model: DiffusionModel) -> dict[str, Any]:
        """The most that a request may ask for."""
        return {name: getattr(model, f"max_{name}") for name in LIMITS}
