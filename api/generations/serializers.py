"""What a request for pictures looks like, and how a generation is shown."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.urls import reverse
from rest_framework import serializers
from rest_framework.request import Request

from api.authentication import oversees
from api.body import check_types
from api.inputs.fields import PictureField, PicturesField, reference_to
from generation import line
from generation.engines.schedulers import SCHEDULERS
from generation.inputs import source_of
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation, Role
from generation.models.generation import MAX_SEED
from generation.models.webhook import Kind
from generation.pace import Seconds
from generation.parameters import IMAGE_FORMATS, PRIORITIES, Wishes
from generation.terms import Asked, OnDisconnect, Terms

TERMS = ("deadline_seconds", "on_disconnect", "webhook_url", "webhook_events")  # they change nothing of what is drawn
UNFINISHED_CHOICES = [(status.value, status.value) for status in (Status.QUEUED, Status.RUNNING)]
FORM_FIELDS = {"csrfmiddlewaretoken"}  # what the browsable API's form sends along
DATE_TIME = serializers.DateTimeField()
TEXT_AREA = {"base_template": "textarea.html", "rows": 3}


class ModelField(serializers.SlugField):
    """A model by its slug; a form offers those that are enabled when it is shown."""

    def iter_options(self) -> Iterable[Any]:
        """The choices of the form's drop-down list."""
        choices = [(model.slug, model.name) for model in DiffusionModel.objects.enabled()]
        return serializers.ChoiceField(choices=choices).iter_options()


class GenerationRequestSerializer(serializers.Serializer[Asked]):
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
    image = PictureField(required=False, help_text="A picture to redraw: a file, an input's id, or an earlier image.")
    mask = PictureField(required=False, help_text="Bright where to paint, and of the image's size.")
    reference_images = PicturesField(
        required=False,
        style={"template": "api/files.html"},
        help_text="Pictures to look at, where the model takes them.",
    )
    strength = serializers.FloatField(
        required=False, help_text="Above 0, up to 1: how much of the image changes. Left out: the model's own."
    )
    reproducible = serializers.BooleanField(
        required=False,
        source="is_reproducible",
        help_text="The same bits each time on the same kind of device, whatever else runs there; may take longer.",
    )
    format = serializers.ChoiceField(
        choices=IMAGE_FORMATS, required=False, source="image_format", help_text="File format of the images."
    )
    priority = serializers.ChoiceField(
        choices=PRIORITIES, required=False, initial=0, help_text="-1 waits for all others; 1 is for staff."
    )

    deadline_seconds = serializers.FloatField(
        required=False, help_text="Cancel it if it has not ended after so many seconds."
    )

    on_disconnect = serializers.ChoiceField(
        choices=list(OnDisconnect),
        required=False,
        help_text="What becomes of it if you hang up while you wait (Prefer: wait); left out: it goes on.",
    )
    webhook_url = serializers.CharField(
        required=False, max_length=2000, help_text="Where to report to; left out: as your account says."
    )
    webhook_events = serializers.MultipleChoiceField(
        choices=list(Kind), required=False, help_text="What to report; left out: its end."
    )

    def validate_priority(self, priority: int) -> int:
        """Refuse one above 0 unless the request may do what staff may; the domain knows the user, not the key."""
        if priority > 0 and not oversees(self.context["request"]):
            raise serializers.ValidationError("Above 0 is for staff, whose API key needs the scope 'admin' for it.")
        return priority

    def validate_webhook_events(self, kinds: set[str]) -> tuple[str, ...] | None:
        """In the order in which they happen; of a form that names none, none."""
        return tuple(kind for kind in Kind if kind in kinds) or None

    def to_internal_value(self, data: Any) -> Asked:
        """Return what is asked for; a member that does not exist is refused, for it is most often a misspelling."""
        check_types(self.fields, data)
        values = super().to_internal_value(data)
        unknown = sorted(set(data) - set(self.fields) - FORM_FIELDS)
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: serializers.ErrorDetail(f"Unknown. Known are: {known}.", code="unknown") for name in unknown}
            )
        terms = Terms(**{name: values.pop(name) for name in TERMS if name in values})
        values["reference_images"] = tuple(values.get("reference_images", ()))
        return Asked(Wishes(**values), terms)


class CancelAllSerializer(serializers.Serializer[Any]):
    """The body of `POST /api/generations/cancel/`: which of one's own to cancel; all of them if it is empty."""

    model = serializers.SlugRelatedField(
        slug_field="slug", queryset=DiffusionModel.objects.all(), required=False, help_text="Only those of this model."
    )
    status = serializers.ChoiceField(
        choices=UNFINISHED_CHOICES,
        required=False,
        help_text="Only those that wait, or only those that run.",
    )


class GenerationSerializer(serializers.Serializer[Generation]):
    """A generation as its owner sees it: `position` is 1 for the next of its model to run, null unless queued.

    It is only ever shown, and by far most often of all: two dozen field objects would take half of the request.
    """

    def to_representation(self, generation: Generation) -> dict[str, Any]:
        """All that there is to know about it."""
        request = self.context["request"]
        return {
            "id": str(generation.pk),
            "status": str(generation.status),
            "progress": progress(generation),
            "position": generation.position,
            "estimate": estimate(generation),
            "images": images(generation, request),
            "error": error(generation),
            "model": generation.model.slug,
            "prompt": generation.prompt,
            "negative_prompt": generation.negative_prompt,
            "width": generation.width,
            "height": generation.height,
            "num_inference_steps": generation.num_inference_steps,
            "guidance_scale": generation.guidance_scale,
            "seed": generation.seed,
            "num_images": generation.num_images,
            "scheduler": generation.scheduler,
            **beginnings(generation),
            "strength": generation.strength,
            "reproducible": generation.is_reproducible,
            "format": generation.image_format,
            "priority": generation.priority,
            "attempts": generation.attempt_count,
            "resumed_from_step": generation.resumed_from_step,
            "created_at": in_iso_8601(generation.created_at),
            "started_at": in_iso_8601(generation.started_at),
            "finished_at": in_iso_8601(generation.finished_at),
            "cancel_requested_at": in_iso_8601(generation.cancel_requested_at),
            "cancel_reason": generation.cancel_reason or None,
            "cancelled_at": in_iso_8601(generation.cancelled_at),
            "cancel_seen_by": generation.cancel_seen_by or None,
            "device_freed_at": in_iso_8601(generation.device_freed_at),
            "expired_at": in_iso_8601(generation.expired_at),
            "webhook_url": generation.webhook_url or None,
            "webhook_events": generation.webhook_events,
            "deadline_at": in_iso_8601(generation.deadline_at),
            "batch": str(generation.batch_id) if generation.batch_id else None,
            "links": links(generation, request),
        }


def progress(generation: Generation) -> dict[str, float]:
    """Denoise steps done, of how many, and the share of them from 0 to 1."""
    return {"step": generation.step, "total": generation.total_steps, "fraction": generation.fraction}


def beginnings(generation: Generation) -> dict[str, Any]:
    """What it begins with, as a request would ask for it."""
    shown: dict[str, Any] = {Role.IMAGE: None, Role.MASK: None, Role.REFERENCE: []}
    for use in generation.inputs.all() if generation.has_inputs else ():
        reference = reference_to(source_of(use))
        if use.role == Role.REFERENCE:
            shown[use.role].append(reference)
        else:
            shown[use.role] = reference
    return {str(role): reference for role, reference in shown.items()}


def estimate(generation: Generation) -> dict[str, dict[str, float]] | None:
    """In how many seconds it starts and ends: half of such estimates are kept by p50, nine tenths by p90.

    None when it is over, and while no generation of its model has run lately, or no device serves it.
    """
    found = line.estimate(generation)
    if found is None:
        return None
    return {"starts_in_seconds": seconds(found.starts_in), "finishes_in_seconds": seconds(found.finishes_in)}


def seconds(length: Seconds) -> dict[str, float]:
    """A length of time, to the tenth of a second."""
    return {"p50": round(length.p50, 1), "p90": round(length.p90, 1)}


def images(generation: Generation, request: Request) -> list[dict[str, Any]]:
    """Its images by their links, with a small WebP of each, once it has succeeded; before that there are none."""
    if generation.status != Status.SUCCEEDED:
        return []
    return [
        {
            "index": image.index,
            "seed": image.seed,
            "url": link(request, "generation-image", generation.pk, image.index),
            "thumbnail": link(request, "generation-thumbnail", generation.pk, image.index),
            "content_type": image.content_type,
            "width": image.width,
            "height": image.height,
            "size_bytes": image.size_bytes,
            "sha256": image.sha256,
        }
        for image in generation.images.all()
    ]


def error(generation: Generation) -> dict[str, str] | None:
    """Why it failed: a code for programs and a sentence for people."""
    if not generation.error_code:
        return None
    return {"code": generation.error_code, "detail": generation.error_detail}


def in_iso_8601(moment: datetime | None) -> str | None:
    """A time in the time zone of the settings."""
    return DATE_TIME.to_representation(moment) if moment else None


def links(generation: Generation, request: Request) -> dict[str, Any]:
    """Where to look, to listen, how to stop it, and where its images are or will be."""
    return {
        "self": link(request, "generation-detail", generation.pk),
        "events": link(request, "generation-events", generation.pk),
        "cancel": link(request, "generation-cancel", generation.pk),
        "retry": link(request, "generation-retry", generation.pk),
        "images": [link(request, "generation-image", generation.pk, index) for index in range(generation.num_images)],
    }


def link(request: Request, name: str, *arguments: Any) -> str:
    """The whole address of an endpoint; DRF's own `reverse` takes three times as long for what we do not use."""
    return request.build_absolute_uri(reverse(name, args=arguments))
