"""The browsable API: images and progress above the JSON, buttons for what applies, forms that remember."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.forms import Form
from rest_framework import status
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request

from generation.lifecycle import FINISHED, Status

if TYPE_CHECKING:  # DRF's views read the setting that names this module while they are imported
    from rest_framework.views import APIView


class PageRenderer(BrowsableAPIRenderer):
    """DRF's pages with what people need to work with generations."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        """Lead on from a form that was accepted to its generation, so that reloading sends nothing twice."""
        context = renderer_context or {}
        request, response = context["request"], context["response"]
        if request.method == "POST" and status.is_success(response.status_code) and "links" in (data or {}):
            response.status_code = status.HTTP_303_SEE_OTHER
            response["Location"] = data["links"]["self"]
            return ""
        return super().render(data, accepted_media_type, renderer_context)

    def get_context(
        self, data: Any, accepted_media_type: str | None, renderer_context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add what the page of one generation, or of several, shows; and the problem, if there is one."""
        context = super().get_context(data, accepted_media_type, renderer_context)
        view, response = renderer_context["view"], renderer_context["response"]
        if response.exception:
            return context | {"problem": data, "delete_form": None}
        if getattr(view, "basename", None) != "generation":
            return context
        if view.action == "retrieve":
            return context | about(data) | {"delete_form": context["delete_form"] and is_finished(data)}
        return context | {"generations": data["results"]} if view.action == "list" else context

    def get_extra_actions(self, view: "APIView", status_code: int) -> None:
        """None: DRF would link to them, but they take no GET; the page has buttons instead."""
        return

    def get_rendered_html_form(self, data: Any, view: "APIView", method: str, request: Request) -> Any:
        """A form that was refused keeps what was typed, with each complaint beside its field."""
        if method == "PUT":  # for programs, under an id of their own; what is there already cannot be replaced
            return None
        if (
            method == "POST" and getattr(view, "basename", None) == "batch"
        ):  # a form has no way to ask for a list of requests
            return None
        if method != "POST" or request.method != "POST" or "errors" not in (data or {}):
            return super().get_rendered_html_form(data, view, method, request)
        serializer = view.get_serializer(data=request.data)  # type: ignore[attr-defined]
        serializer.is_valid()
        # The domain's complaints come after the serializer's own checks, so it does not know them.
        serializer._errors = complaints(data)
        return self.render_form_for_serializer(serializer)

    def get_raw_data_form(self, data: Any, view: "APIView", method: str, request: Request) -> Form | None:
        """Without empty members: null would be refused, while what is left out is as the model has it."""
        if method == "PUT":
            return None
        form: Form | None = super().get_raw_data_form(data, view, method, request)
        if form is not None and form.fields["_content"].initial:
            members = json.loads(form.fields["_content"].initial)
            kept = {name: value for name, value in members.items() if value not in (None, "") or name == "prompt"}
            form.fields["_content"].initial = json.dumps(kept, indent=4, ensure_ascii=False)
        return form


def about(generation: dict[str, Any]) -> dict[str, Any]:
    """What the page of one generation needs to know."""
    is_stopping = generation["cancel_requested_at"] is not None
    return {
        "generation": generation,
        "is_finished": is_finished(generation),
        "is_stopping": is_stopping,
        "can_cancel": not is_finished(generation) and not is_stopping,
        "can_retry": generation["status"] in (Status.FAILED, Status.CANCELLED),
    }


def is_finished(generation: dict[str, Any]) -> bool:
    """Whether nothing will change any more."""
    return generation["status"] in FINISHED


def complaints(problem: dict[str, Any]) -> dict[str, list[str]]:
    """The sentences of a problem detail by the field that each points to."""
    by_field = defaultdict(list)
    for error in problem["errors"]:
        by_field[error["pointer"].removeprefix("/")].append(error["detail"])
    return dict(by_field)
