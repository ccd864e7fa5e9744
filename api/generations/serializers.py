"""What a request for pictures looks like, and how a generation is shown."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from api.authentication import oversees
from generation.engines.schedulers import SCHEDULERS
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation, Image
from generation.models.generation import MAX_SEED
from generation.parameters import IMAGE_FORMATS, PRIORITIES, Wishes

FORM_FIELDS = {"csrfmiddlewaretoken"}  # what the browsable API's form sends along
TEXT_AREA = {"base_template": "textarea.html", "rows": 3}


class ModelField(serializers.SlugField):
    """A model by its slug; a form offers those that are enabled when it is shown."""

    def iter_options(self) -> Iterable[Any]:
        """The choices of the form's drop-down list."""
        choices = [(model.slug, model.name) for model in DiffusionModel.objects.enabled()]
        return serializers.ChoiceField(choices=choices).iter_options()


class GenerationRequestSerializer(serializers.Serializer[Wishes]):
    """The body of `POST /api/generations/`. What is left out is as the model has it."""

    prompt = serializers.CharField(style=TEXT_AREA, help_text="What the picture should show.")
    negative_prompt = serializers.CharField(
        required=False, allow_blank=True, style=TEXT_AREA, help_text="What it should not show."
    )
    model = ModelField(
        required=False,
        style={"base_template": "select.html"},
        help_text="A model of /api/models/, by its slug.",
    )
    width = serializers.IntegerField(required=False, help_text="Pixels, a multiple of 8.")
    height = serializers.IntegerField(required=False, help_text="Pixels, a multiple of 8.")
    num_inference_steps = serializers.IntegerField(
        required=False, help_text="Denoise steps: more take longer and show more detail."
    )
    guidance_scale = serializers.FloatField(required=False, help_text="How closely to follow the prompt.")
    seed = serializers.IntegerField(
        required=False,
        help_text=f"0 to {MAX_SEED}. The same seed makes the same picture again; drawn if left out.",
    )
    num_images = serializers.IntegerField(required=False, help_text="Image i is drawn from seed + i.")
    scheduler = serializers.ChoiceField(
        choices=sorted(SCHEDULERS), required=False, allow_blank=True, help_text="Left out: the model's own."
    )
    format = serializers.ChoiceField(
        choices=IMAGE_FORMATS, required=False, source="image_format", help_text="File format of the images."
    )
    priority = serializers.ChoiceField(
        choices=PRIORITIES, required=False, initial=0, help_text="-1 waits for all others; 1 is for staff."
    )

    def validate_priority(self, priority: int) -> int:
        """Refuse one above 0 unless the request may do what staff may; the domain knows the user, not the key."""
        if priority > 0 and not oversees(self.context["request"]):
            raise serializers.ValidationError("Above 0 is for staff, whose API key needs the scope 'admin' for it.")
        return priority

    def to_internal_value(self, data: Any) -> Wishes:
        """Return the wishes; a member that does not exist is refused, for it is most often a misspelling."""
        values = super().to_internal_value(data)
        unknown = sorted(set(data) - set(self.fields) - FORM_FIELDS)
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: serializers.ErrorDetail(f"Unknown. Known are: {known}.", code="unknown") for name in unknown}
            )
        return Wishes(**values)


class ImageSerializer(serializers.ModelSerializer[Image]):
    """One image, by its links."""

    url = serializers.SerializerMethodField()
    thumbnail = serializers.SerializerMethodField()

    class Meta:
        model = Image
        fields = [
            "index",
            "seed",
            "url",
            "thumbnail",
            "content_type",
            "width",
            "height",
            "size_bytes",
            "sha256",
        ]

    def get_url(self, image: Image) -> str:
        """Where the picture itself is."""
        return self._link("generation-image", image)

    def get_thumbnail(self, image: Image) -> str:
        """Where a small WebP of it is."""
        return self._link("generation-thumbnail", image)

    def _link(self, name: str, image: Image) -> str:
        return reverse(name, args=[image.generation_id, image.index], request=self.context["request"])


class GenerationSerializer(serializers.ModelSerializer[Generation]):
    """A generation as its owner sees it."""

    model = serializers.SlugRelatedField[DiffusionModel](slug_field="slug", read_only=True)
    format = serializers.CharField(source="image_format")
    progress = serializers.SerializerMethodField()
    position = serializers.IntegerField(help_text="1 for the next of its model to run; null unless queued.")
    attempts = serializers.IntegerField(source="attempt_count")
    error = serializers.SerializerMethodField()
    images = serializers.SerializerMethodField()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Generation
        fields = [
            "id", "status", "progress", "position", "images", "error", "model", "prompt", "negative_prompt",
            "width", "height", "num_inference_steps", "guidance_scale", "seed", "num_images", "scheduler", "format",
            "priority", "attempts", "created_at", "started_at", "finished_at", "cancel_requested_at", "links",
        ]  # fmt: skip

    def get_progress(self, generation: Generation) -> dict[str, float]:
        """Denoise steps done, of how many, and the share of them from 0 to 1."""
        return {
            "step": generation.step,
            "total": generation.total_steps,
            "fraction": generation.fraction,
        }

    def get_images(self, generation: Generation) -> list[dict[str, Any]]:
        """Its images, once it has succeeded; before that there are none to look for."""
        if generation.status != Status.SUCCEEDED:
            return []
        return list(ImageSerializer(generation.images.all(), many=True, context=self.context).data)

    def get_error(self, generation: Generation) -> dict[str, str] | None:
        """Why it failed: a code for programs and a sentence for people."""
        if not generation.error_code:
            return None
        return {"code": generation.error_code, "detail": generation.error_detail}

    def get_links(self, generation: Generation) -> dict[str, Any]:
        """Where to look, how to stop it, and where its images are or will be."""
        request = self.context["request"]
        place = {"args": [generation.pk], "request": request}
        images = [
            reverse("generation-image", args=[generation.pk, index], request=request)
            for index in range(generation.num_images)
        ]
        return {
            "self": reverse("generation-detail", **place),
            "cancel": reverse("generation-cancel", **place),
            "retry": reverse("generation-retry", **place),
            "images": images,
        }
