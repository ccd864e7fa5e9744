"""Oversight of generations: look at all of them, cancel, retry, delete; nothing is added or edited here."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    MultipleChoicesDropdownFilter,
    RelatedDropdownFilter,
)
from unfold.dataclasses import ActionDialog, UnfoldAction
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from generation import operations
from generation.admin import columns, selection, timeline
from generation.admin.filters import DayRangeFilter
from generation.errors import InvalidParameters, NotRetryable
from generation.lifecycle import Status
from generation.models import Attempt, Generation

CANCEL = ActionDialog(
    title="Cancel this generation?",
    description="If it waits, it ends at once. If it runs, its worker stops at the next step.",
    form_class=None,
    form_submit_text="Yes, cancel it",
)
RETRY = ActionDialog(
    title="Make this generation again?",
    description="A new one with the same parameters and the same seed joins the queue, for the same owner.",
    form_class=None,
    form_submit_text="Yes, make it again",
)


@admin.register(Generation)
class GenerationAdmin(ModelAdmin):
    """The list and the pages of generations."""

    list_display = [
        columns.picture, columns.state, columns.brief_prompt, columns.model, "owner",
        columns.device, columns.waited, columns.ran, columns.created,
    ]  # fmt: skip
    list_display_links = [columns.picture, columns.brief_prompt]
    list_select_related = ["model", "owner", "pinned_to"]
    list_filter = [
        ("status", MultipleChoicesDropdownFilter),
        ("model", RelatedDropdownFilter),
        ("attempts__device", RelatedDropdownFilter),
        ("owner", AutocompleteSelectFilter),
        ("created_at", DayRangeFilter),
    ]
    list_filter_submit = True
    list_fullwidth = True
    list_per_page = 50
    search_fields = ["prompt", "id", "owner__username", "api_key"]
    search_help_text = "Prompt, id, owner, or the beginning of an API key"
    actions = [selection.cancel_selected, selection.retry_selected, selection.delete_selected]
    actions_detail = ["cancel", "retry"]
    change_form_outer_before_template = "admin/generation/generation/pictures.html"
    change_form_outer_after_template = "admin/generation/generation/timeline.html"
    fieldsets = [
        (
            "Request",
            {"fields": ["prompt", "negative_prompt", ("model", "owner"), ("priority", "pinned_to"), "api_key"]},
        ),
        (
            "Parameters",
            {
                "fields": [
                    ("width", "height"),
                    ("num_inference_steps", "guidance_scale"),
                    ("seed", "num_images"),
                    ("scheduler", "image_format"),
                    ("strength", "is_reproducible"),
                ]
            },
        ),
        (
            "Progress",
            {
                "fields": [
                    (columns.state, columns.position),
                    (columns.waited, columns.ran),
                    (columns.device, "id"),
                    ("deadline_at", "cancel_reason"),
                    ("batch", "webhook_url"),
                ]
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Generation]:
        """Everybody's, each with its images and the name of the device that had it last."""
        attempts = Attempt.objects.filter(generation=OuterRef("pk")).order_by("-number")
        generations = super().get_queryset(request).prefetch_related("images")
        return generations.annotate(last_worker=Subquery(attempts.values("worker")[:1]))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Generations are submitted through the API."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        """Only the verbs of the domain change one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Generation | None = None) -> bool:
        """What waits or runs has to be cancelled first."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_finished)

    def has_oversee_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Who has the right to change generations may cancel and retry them."""
        return request.user.has_perm("generation.change_generation")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one with its timeline."""
        generation = self.get_object(request, unquote(object_id))
        events = [] if generation is None else timeline.events(generation)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "events": events})

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """The buttons that apply to the status it has."""
        generation = self.get_object(request, unquote(object_id))
        if generation is None:
            return []
        applies = {
            "cancel": not generation.is_finished,
            "retry": generation.status in (Status.FAILED, Status.CANCELLED),
        }
        offered = super().get_actions_detail(request, object_id)
        return [button for button in offered if applies[button.path]]

    @action(description="Cancel", icon="cancel", permissions=["oversee"], dialog=CANCEL)
    def cancel(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Cancel the one that is shown."""
        generation = self.find(request, object_id)
        selection.report(self, request, selection.carry_out(selection.cancel, [generation]))
        return lead_to(generation)

    @action(
        description="Retry",
        icon="refresh",
        variant=ActionVariant.PRIMARY,
        permissions=["oversee"],
        dialog=RETRY,
    )
    def retry(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Submit the parameters of the one that is shown once more, and show the new one."""
        generation = self.find(request, object_id)
        try:
            again = operations.retry(generation)
        except (NotRetryable, InvalidParameters) as error:
            self.message_user(request, str(error), messages.WARNING)
            return lead_to(generation)
        self.message_user(request, "This is the new generation.", messages.SUCCESS)
        return lead_to(again)

    def delete_model(self, request: HttpRequest, obj: Generation) -> None:
        """Remove the files as well."""
        operations.delete(obj)

    def find(self, request: HttpRequest, object_id: str) -> Generation:
        """The generation of that id; raises Http404."""
        generation = self.get_object(request, unquote(object_id))
        if generation is None:
            raise Http404
        return generation


def lead_to(generation: Generation) -> HttpResponse:
    """What a dialog answers (htmx's header for it) so that the browser goes to the page of `generation`."""
    url = reverse("admin:generation_generation_change", args=[generation.pk])
    return HttpResponse(headers={"HX-Redirect": url})
