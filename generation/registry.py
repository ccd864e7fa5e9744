"""The model that ships with Pictor, entered into the registry when that is empty."""

from generation.models import DiffusionModel

SHIPPED = DiffusionModel(
    slug="fluent-emoji-256",
    name="Fluent Emoji 256",
    source="weights/fluent-emoji-256",
    is_default=True,
    default_width=256,
    default_height=256,
    default_num_inference_steps=20,
    default_guidance_scale=4.5,
    max_width=256,
    max_height=256,
    max_num_inference_steps=100,
    max_guidance_scale=15.0,
    max_num_images=4,
)


def ensure_a_model() -> None:
    """Register the shipped model, unless the registry has any model: then an operator has decided already."""
    if not DiffusionModel.objects.exists():
        DiffusionModel.objects.bulk_create([SHIPPED], ignore_conflicts=True)
