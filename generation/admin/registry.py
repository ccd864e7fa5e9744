"""The registry of diffusion models: what users may ask for, its defaults and its limits."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.dataclasses import ActionDialog, UnfoldAction
from unfold.decorators import action, display
from unfold.forms import BaseDialogForm

from generation import operations
from generation.admin import labels, selection
from generation.models import DiffusionModel, Generation

MAKE_DEFAULT = ActionDialog(
    title="Make this the default model?",
    description="Requests that name no model will get this one from now on.",
    form_class=None,
    form_submit_text="Make it the default",
)


@display(description="Availability")
def availability(model: DiffusionModel) -> SafeString:
    """Whether users may ask for it, and whether they get it without asking."""
    enabled = labels.label("enabled", "success") if model.is_enabled else labels.label("disabled", "default")
    return format_html("{} {}", enabled, labels.label("default", "info") if model.is_default else "")


@display(description="Defaults")
def defaults(model: DiffusionModel) -> str:
    """What a request gets that says nothing else."""
    size = f"{model.default_width} x {model.default_height}"
    return f"{size}, {model.default_num_inference_steps} steps, guidance {model.default_guidance_scale:g}"


@display(description="Generations", ordering="generation_count")
def generation_count(model: DiffusionModel) -> int:
    """How many there are, as `DiffusionModelAdmin.get_queryset` annotates it."""
    return model.generation_count  # type: ignore[attr-defined]


@admin.register(DiffusionModel)
class DiffusionModelAdmin(ModelAdmin):
    """The list and the forms of models."""

    list_display = ["slug", "name", availability, "source", defaults, generation_count]
    search_fields = ["slug", "name", "source"]
    actions = ["enable", "disable", "cancel_generations"]
    actions_detail = ["make_default"]
    fieldsets = [
        (None, {"fields": [("slug", "name"), ("is_enabled", "is_default")]}),
        ("Source", {"fields": ["source", ("revision", "dtype"), "may_save_memory"]}),
        (
            "Defaults",
            {
                "description": "What a request gets that says nothing else.",
                "fields": [
                    ("default_width", "default_height"),
                    ("default_num_inference_steps", "default_guidance_scale"),
                ],
            },
        ),
        (
            "Limits",
            {
                "description": "The most that a request may ask for.",
                "fields": [
                    ("max_width", "max_height"),
                    ("max_num_inference_steps", "max_guidance_scale"),
                    "max_num_images",
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DiffusionModel]:
        """All models, each with the number of its generations."""
        return super().get_queryset(request).annotate(generation_count=Count("generations"))

    def get_readonly_fields(self, request: HttpRequest, obj: DiffusionModel | None = None) -> list[str]:
        """The slug stays, for queues are named after it; the default one is set by a button."""
        return ["is_default"] if obj is None else ["slug", "is_default"]

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """The button where it would change something."""
        model = self.get_object(request, unquote(object_id))
        can_become_default = model is not None and model.is_enabled and not model.is_default
        return super().get_actions_detail(request, object_id) if can_become_default else []

    def get_deleted_objects(
        self, objs: Sequence[Any] | QuerySet[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Say how many generations are in the way instead of listing each of them."""
        used = DiffusionModel.objects.filter(pk__in=[model.pk for model in objs], generations__isnull=False)
        reasons = [
            f"{model.count} generations of {model}. Delete them first, or disable the model instead."
            for model in used.annotate(count=Count("generations"))
        ]
        return ([], {}, set(), reasons) if reasons else super().get_deleted_objects(objs, request)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, models: QuerySet[DiffusionModel]) -> None:
        """Let users ask for the models."""
        self.message_user(request, f"{models.update(is_enabled=True)} enabled.", messages.SUCCESS)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, models: QuerySet[DiffusionModel]) -> None:
        """Take no new requests for the models; what was accepted before still runs."""
        self.message_user(request, f"{models.update(is_enabled=False)} disabled.", messages.SUCCESS)

    @admin.action(description="Cancel all their generations", permissions=["oversee"])
    def cancel_generations(self, request: HttpRequest, models: QuerySet[DiffusionModel]) -> TemplateResponse | None:
        """Cancel what waits and ask the workers of what runs to stop, whoever it belongs to."""
        generations = Generation.objects.filter(model__in=models)
        if "confirmed" not in request.POST:
            question = f"Cancel all generations of {', '.join(map(str, models))}?"
            unfinished = generations.unfinished()
            return selection.ask(self, request, unfinished, action="cancel_generations", question=question)
        cancelled, stopping = operations.cancel_all(generations)
        self.message_user(request, f"{cancelled} cancelled, {stopping} asked to stop.", messages.SUCCESS)
        return None

    def has_oversee_permission(self, request: HttpRequest) -> bool:
        """Who has the right to change generations may cancel them."""
        return request.user.has_perm("generation.change_generation")

    @action(description="Make default", icon="star", permissions=["change"], dialog=MAKE_DEFAULT)
    def make_default(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Make the model that is shown the default one, instead of the one that was."""
        model = self.get_object(request, unquote(object_id))
        if model is None:
            raise Http404
        if not model.is_enabled:
            self.message_user(request, f"{model} is disabled. Enable it first.", messages.WARNING)
            return lead_to(model)
        with transaction.atomic():
            DiffusionModel.objects.filter(is_default=True).update(is_default=False)
            DiffusionModel.objects.filter(pk=model.pk).update(is_default=True)
        self.message_user(request, f"{model} is the default model now.", messages.SUCCESS)
        return lead_to(model)


def lead_to(model: DiffusionModel) -> HttpResponse:
    """What a dialog answers (htmx's header for it) so that the browser goes to the page of `model`."""
    url = reverse("admin:generation_diffusionmodel_change", args=[model.pk])
    return HttpResponse(headers={"HX-Redirect": url})
