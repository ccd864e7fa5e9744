"""The endpoints of Replicate's predictions API: parse, one call inward, shape the answer."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import authenticate_again, credential_of, user_of
from api.body import body_of
from api.dialects import view
from api.dialects.files import address_of, link_to
from api.dialects.parser import PicturesInJSON
from api.dialects.replicate import translate
from api.dialects.replicate.schema import PredictionRequest
from api.dialects.watching import seat_for, watch
from api.generations.images import read
from api.generations.pagination import NewestFirst
from api.headers import cancel_after_seconds, idempotency_key, preference
from api.held import HeldResponse
from api.models import Scope
from api.threads import in_thread
from generation import operations, parameters
from generation.errors import AlreadyFinished, InvalidParameters
from generation.events.event import Kind
from generation.events.seats import Seat
from generation.events.waiting import wait_until_finished
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation, Image, WebhookAccount, WebhookEvent
from generation.models.webhook import Kind as Told

STREAM_SECONDS = 3600
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ReplicateView(view.DialectView):
    """Errors as `{title, detail, status, invalid_fields}`."""

    parser_classes: list[Any] = [PicturesInJSON]
    error_of = staticmethod(translate.error_of)

    def handle_exception(self, error: Exception) -> Response:
        """Faults of the input are 422 here."""
        response = super().handle_exception(error)
        if "invalid_fields" in (response.data or {}):
            response.status_code = response.data["status"]
        return response


class NothingHere(ReplicateView, view.NothingHere):
    """Any other path."""


class PredictionsView(ReplicateView):
    """`predictions`, and the same of a model or a deployment."""

    def get(self, request: Request) -> Response:
        """One's own, the newest first."""
        pages = NewestFirst()
        page = pages.paginate_queryset(own(request).prefetch_related("images"), request, view=self)
        address = address_of(request)
        return pages.get_paginated_response([with_links(each, address=address) for each in page or ()])

    def post(self, request: Request, owner: str = "", name: str = "") -> HttpResponseBase:
        """Submit one; with `Prefer: wait` the answer waits for its end."""
        serializer = PredictionRequest(data=body_of(request))
        serializer.is_valid(raise_exception=True)
        body = serializer.validated_data
        slug = name or translate.slug_of(body.get("version") or "")
        if not slug:
            raise InvalidParameters({"version": "Name a model, as 'pictor/<slug>' or '<slug>'."})
        wishes = translate.wishes_of(body["input"], parameters.find_model(slug))
        terms = translate.terms_of(body, deadline_seconds=cancel_after_seconds(request), address=address_of(request))
        terms = replace(terms, idempotency_key=idempotency_key(request))
        generation = operations.submit(wishes, owner=user_of(request), credential=credential_of(request), terms=terms)
        return answer(request, generation)


class PredictionView(ReplicateView):
    """`predictions/{id}`."""

    def get(self, request: Request, pk: UUID) -> Response:
        """One prediction."""
        return Response(shown(get_object_or_404(own(request), pk=pk), request))


class CancelView(ReplicateView):
    """`predictions/{id}/cancel`."""

    def post(self, request: Request, pk: UUID) -> Response:
        """Cancel it; a finished one is returned as it is."""
        generation = get_object_or_404(own(request), pk=pk)
        try:
            generation = operations.cancel(generation)
        except AlreadyFinished:
            generation.refresh_from_db()
        return Response(shown(generation, request))


class StreamView(ReplicateView):
    """`predictions/{id}/stream`."""

    http_method_names = ["get", "options"]  # a HEAD would hold the stream open

    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Open a stream of logs, output and the end."""
        generation = get_object_or_404(own(request), pk=pk)
        events = stream(generation, request, seat=seat_for(request))
        return StreamingHttpResponse(events, content_type="text/event-stream", headers=STREAM_HEADERS)


class ModelsView(ReplicateView):
    """`models`."""

    def get(self, request: Request) -> Response:
        """All enabled models."""
        models = [translate.model_of(model, url=address_of(request)) for model in DiffusionModel.objects.enabled()]
        return Response({"previous": None, "next": None, "results": models})


class ModelView(ReplicateView):
    """`models/{owner}/{name}`."""

    def get(self, request: Request, owner: str, name: str) -> Response:
        """One enabled model."""
        return Response(translate.model_of(find_model(name), url=address_of(request)))


class VersionsView(ReplicateView):
    """`models/{owner}/{name}/versions`, and one of them."""

    def get(self, request: Request, owner: str, name: str, version: str = "") -> Response:
        """The one version that there is, whatever it is called in the path: scripts have those of other services."""
        found = translate.version_of(find_model(name))
        return Response(found | {"id": version} if version else {"previous": None, "next": None, "results": [found]})


class DeploymentsView(ReplicateView):
    """`deployments`."""

    def get(self, request: Request) -> Response:
        """All enabled models."""
        slugs = DiffusionModel.objects.enabled().values_list("slug", flat=True)
        found = [translate.deployment_of(translate.OWNER, slug) for slug in slugs]
        return Response({"previous": None, "next": None, "results": found})


class DeploymentView(ReplicateView):
    """`deployments/{owner}/{name}`."""

    def get(self, request: Request, owner: str, name: str) -> Response:
        """One enabled model, whoever its owner is said to be."""
        return Response(translate.deployment_of(owner, find_model(name).slug))


class WebhookSecretView(ReplicateView):
    """`webhooks/default/secret`."""

    def get(self, request: Request) -> Response:
        """What webhooks are signed with; not for keys that may only look."""
        if Scope.GENERATE not in getattr(request.auth, "scopes", ()):
            raise PermissionDenied("This API key lacks the scope 'generate'.")
        return Response({"key": WebhookAccount.of(user_of(request).pk).secret})


class AccountView(ReplicateView):
    """`account`."""

    def get(self, request: Request) -> Response:
        """Whose key it is."""
        user = user_of(request)
        return Response({"type": "user", "username": user.username, "name": user.get_full_name(), "github_url": ""})


def own(request: Request) -> QuerySet[Generation]:
    """The generations of who asks, in whichever dialect they were made."""
    return Generation.objects.owned_by(user_of(request)).select_related("model")


def find_model(slug: str) -> DiffusionModel:
    """The enabled model; raises Http404."""
    return get_object_or_404(DiffusionModel.objects.enabled(), slug=slug)


def shown(generation: Generation, request: Request) -> dict[str, Any]:
    """A prediction; without TLS its files are in it, for the client takes no other links for files."""
    if request.is_secure():
        return with_links(generation, address=address_of(request))
    output = [translate.data_url(read(str(image.file.name)), image) for image in images_of(generation)]
    return translate.prediction(generation, output=output or None, urls=urls_of(generation, address_of(request)))


def with_links(generation: Generation, *, address: str) -> dict[str, Any]:
    """A prediction whose files are links."""
    output = [link_to(image, address=address) for image in images_of(generation)]
    return translate.prediction(generation, output=output or None, urls=urls_of(generation, address))


def images_of(generation: Generation) -> list[Image]:
    """Its images, once it has succeeded."""
    return list(generation.images.all()) if generation.status == Status.SUCCEEDED else []


def urls_of(generation: Generation, address: str) -> dict[str, str]:
    """Where to look, to cancel and to listen."""
    places = {"get": "replicate-prediction", "cancel": "replicate-cancel", "stream": "replicate-stream"}
    return {what: address + reverse(name, args=[generation.pk]) for what, name in places.items()}


def tell(event: WebhookEvent, address: str) -> dict[str, Any]:
    """The body of a webhook: the prediction."""
    now = with_links(event.generation, address=address)
    return now if event.kind == Told.FINISHED else translate.as_it_ran(now, event.facts)


def answer(request: Request, generation: Generation) -> HttpResponseBase:
    """The new prediction, at once or when it has ended; a wait that ran out looks as if it had not begun.

    By any other status the client takes it for finished.
    """
    seconds = preference(request).wait_seconds
    body = shown(generation, request)
    if seconds is None:
        return Response(body, status=201)

    async def settle(held: HeldResponse) -> None:
        has_ended = await wait_until_finished(generation.pk, owner_id=generation.owner_id, timeout_seconds=seconds)
        with suppress(APIException, ObjectDoesNotExist, Error):  # or it stays as it was, and the client asks again
            current = await in_thread(partial(look_again, generation, request))
            if not has_ended:
                current["status"], held.status_code = translate.STATUSES[Status.QUEUED], 202
            held.content = await in_thread(lambda: json.dumps(current).encode())  # megabytes, with images in it

    return HeldResponse(json.dumps(body).encode(), settle=settle, status=201, content_type="application/json")


def look_again(generation: Generation, request: Request) -> dict[str, Any]:
    """The prediction as the database has it now."""
    return shown(Generation.objects.select_related("model").get(pk=generation.pk), request)


async def stream(generation: Generation, request: Request, *, seat: Seat | None) -> AsyncIterator[bytes]:
    """Logs while it runs, then each output or the error, then `done`."""
    number = 0

    def frame(kind: str, data: str) -> bytes:
        nonlocal number
        number += 1
        lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
        return f"event: {kind}\nid: {generation.pk}:{number}\n{lines}\n".encode()

    def look() -> dict[str, Any]:
        authenticate_again(request)
        return look_again(generation, request)

    async for happening in watch(generation, seconds=STREAM_SECONDS, seat=seat):
        if happening.kind is None:
            yield b": still here\n\n"
        elif happening.kind == Kind.PROGRESS and happening.data:
            yield frame("logs", translate.progress_line(happening.data["step"], happening.data["total"]))
    try:
        end = await in_thread(look)
    except (APIException, ObjectDoesNotExist, Error):  # revoked, deleted, or nobody knows
        return
    if end["completed_at"] is None:  # this process stops, or an hour is over: there is no end to tell
        return
    for output in end["output"] or ():
        yield frame("output", output)
    if end["error"]:
        yield frame("error", json.dumps({"detail": end["error"]}))
    is_cancelled = end["status"] == translate.STATUSES[Status.CANCELLED]
    yield frame("done", json.dumps({"reason": end["status"]} if is_cancelled else {}))
