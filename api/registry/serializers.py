"""How a model of the registry is shown."""

from dataclasses import asdict
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
    takes = serializers.SerializerMethodField()

    class Meta:
        model = DiffusionModel
        fields = ["slug", "name", "url", "is_default", "defaults", "limits", "schedulers", "takes"]

    def get_takes(self, model: DiffusionModel) -> dict[str, bool | None]:
        """Which pictures a request may begin with; null where that shows only when the model is loaded."""
        return asdict(model.abilities)

    def get_defaults(self, model: DiffusionModel) -> dict[str, Any]:
        """What a request gets that leaves a member out."""
        return {name: getattr(model, f"default_{name}") for name in DEFAULTS}

    def get_limits(self, model: DiffusionModel) -> dict[str, Any]:
        """The most that a request may ask for."""
        return {name: getattr(model, f"max_{name}") for name in LIMITS}
