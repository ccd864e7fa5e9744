"""The endpoints of fal's queue: parse, one call inward, shape the answer."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error
from django.http import Http404, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import ApiKeyAuthentication, authenticate_again, credential_of, user_of
from api.body import body_of
from api.dialects import view
from api.dialects.fal import translate
from api.dialects.fal.schema import AppInput
from api.dialects.fal.translate import Cancelled, State
from api.dialects.files import address_of, link_to
from api.dialects.parser import PicturesInJSON
from api.dialects.watching import seat_for, watch
from api.headers import idempotency_key
from api.threads import in_thread
from generation import operations
from generation.errors import AlreadyFinished
from generation.lifecycle import Status
from generation.models import Generation, Image, WebhookEvent
from generation.models.positions import set_positions
from generation.parameters import find_model
from generation.terms import Terms

STREAM_SECONDS = 3600
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
YES = ("true", "1")


class FalKey(ApiKeyAuthentication):
    """`Authorization: Key <key>`."""

    def authenticate_header(self, request: Request) -> str:
        """The word before the key."""
        return "Key"


class FalView(view.DialectView):
    """Errors as `{detail, error_type}`."""

    authentication_classes = [FalKey]
    parser_classes: list[Any] = [PicturesInJSON]
    error_of = staticmethod(translate.error_of)

    def handle_exception(self, error: Exception) -> Response:
        """Faults of the input are 422 here, and the type of an error is in a header too."""
        response = super().handle_exception(error)
        if isinstance((response.data or {}).get("detail"), list):
            response.status_code = 422
        if isinstance(response.data, dict) and "error_type" in response.data:
            response["X-Fal-Error-Type"] = response.data["error_type"]
        return response

    def generation(self, request: Request, pk: UUID) -> Generation:
        """One of one's own, in whichever dialect it was made."""
        return get_object_or_404(Generation.objects.owned_by(user_of(request)).select_related("model"), pk=pk)


class NothingHere(FalView, view.NothingHere):
    """Any other path."""


class SubmitView(FalView):
    """`POST {owner}/{app}`."""

    def post(self, request: Request, owner: str, name: str, path: str = "") -> Response:
        """Put a request into the queue."""
        generation = submit(request, name, path)
        return Response(status_of(generation, request, owner, name, has_logs=False))


class StatusView(FalView):
    """`GET …/requests/{id}/status`."""

    def get(self, request: Request, owner: str, name: str, pk: UUID) -> Response:
        """Where it is."""
        generation = self.generation(request, pk)
        has_logs = request.query_params.get("logs", "").lower() in YES
        status = 200 if generation.is_finished else 202
        return Response(status_of(generation, request, owner, name, has_logs=has_logs), status=status)


class StatusStreamView(FalView):
    """`GET …/requests/{id}/status/stream`."""

    http_method_names = ["get", "options"]  # a HEAD would hold the stream open

    def get(self, request: Request, owner: str, name: str, pk: UUID) -> HttpResponseBase:
        """The same as events, until it is completed."""
        generation = self.generation(request, pk)
        has_logs = request.query_params.get("logs", "").lower() in YES
        seat = seat_for(request)

        def look() -> dict[str, Any]:
            authenticate_again(request)
            return status_of(self.generation(request, pk), request, owner, name, has_logs=has_logs)

        async def events() -> AsyncIterator[bytes]:
            with suppress(APIException, Http404, Error):  # revoked, deleted, or nobody knows: there is no more to tell
                yield frame(await in_thread(look))
                async for happening in watch(generation, seconds=STREAM_SECONDS, seat=seat):
                    if happening.kind is None:
                        yield b": still here\n\n"
                    else:
                        shown = await in_thread(look)
                        if shown["status"] != State.COMPLETED:
                            yield frame(shown)
                yield frame(await in_thread(look))

        return StreamingHttpResponse(events(), content_type="text/event-stream", headers=STREAM_HEADERS)


class ResultView(FalView):
    """`GET …/requests/{id}`."""

    def get(self, request: Request, owner: str, name: str, pk: UUID) -> Response:
        """The result; an error if there is none, or none yet."""
        generation = self.generation(request, pk)
        if not generation.is_finished:
            return Response({"detail": "Request is still in progress", "error_type": "bad_request"}, status=400)
        status, body, headers = outcome(generation, request)
        return Response(body, status=status, headers=headers)


class CancelView(FalView):
    """`PUT …/requests/{id}/cancel`."""

    def put(self, request: Request, owner: str, name: str, pk: UUID) -> Response:
        """Take it out of the queue, or ask its worker to stop."""
        generation = self.generation(request, pk)
        try:
            is_over_before = generation.is_finished
            generation = operations.cancel(generation)
        except AlreadyFinished:
            is_over_before = True
        if is_over_before:
            return Response({"status": Cancelled.ALREADY_COMPLETED}, status=400)
        is_over = generation.is_finished
        answer = Cancelled.OK if is_over else Cancelled.CANCELLATION_REQUESTED
        return Response({"status": answer}, status=200 if is_over else 202)


def submit(request: Request, name: str, path: str) -> Generation:
    """What a request asks of the app `name/path`."""
    serializer = AppInput(data=body_of(request))
    serializer.is_valid(raise_exception=True)
    is_low = request.headers.get("X-Fal-Queue-Priority", "").lower() == "low"
    model = find_model(translate.slug_of(name, path))
    wishes = translate.wishes_of(serializer.validated_data, model, is_low=is_low)
    terms = Terms(
        idempotency_key=idempotency_key(request),
        webhook_url=request.query_params.get("fal_webhook", ""),
        webhook_words=f"{translate.NAME} {address_of(request)}",
        start_within_seconds=start_within_seconds(request),
    )
    return operations.submit(wishes, owner=user_of(request), credential=credential_of(request), terms=terms)


def start_within_seconds(request: Request) -> float | None:
    """`X-Fal-Request-Timeout`: how long it may wait; None without one; raises ParseError."""
    value = request.headers.get("X-Fal-Request-Timeout")
    if value is None:
        return None
    try:
        return float(value)
    except ValueError as error:
        raise ParseError("X-Fal-Request-Timeout must be a number of seconds.") from error


def outcome(generation: Generation, request: Request) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The result of a finished one: status code, body and headers."""
    if generation.status == Status.SUCCEEDED:
        return 200, translate.result_of(generation, linked(generation, address=address_of(request))), {}
    failure = translate.failure_of(generation)
    status = translate.failure_status_of(generation)
    body = {"detail": failure["error"], "error_type": failure["error_type"]}
    headers = {"X-Fal-Error-Type": failure["error_type"]}
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        headers["X-Fal-Request-Timeout-Type"] = "user"  # or the client would send it again
    return status, body, headers


def status_of(generation: Generation, request: Request, owner: str, name: str, *, has_logs: bool) -> dict[str, Any]:
    """The status with the place in the queue and the addresses for more."""
    set_positions([generation])
    return translate.status_of(generation, urls=urls_of(generation, request, owner, name), has_logs=has_logs)


def urls_of(generation: Generation, request: Request, owner: str, name: str) -> dict[str, str]:
    """Where to ask on; the client uses these as they are, and speaks TLS only."""
    is_own_host = request.get_host().lower() == settings.FAL_HOST.lower()
    origin = f"https://{request.get_host()}" if is_own_host else request.build_absolute_uri("/fal")
    base = f"{origin}/{owner}/{name}/requests/{generation.pk}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def linked(generation: Generation, *, address: str) -> list[tuple[Image, str]]:
    """Its images with links to them."""
    return [(image, link_to(image, address=address)) for image in generation.images.all()]


def tell(event: WebhookEvent, address: str) -> dict[str, Any]:
    """The body of a webhook: fal tells of the end only."""
    return translate.webhook_of(event.generation, linked(event.generation, address=address))


def frame(shown: dict[str, Any]) -> bytes:
    """One event as it is sent."""
    return f"data: {json.dumps(shown)}\n\n".encode()
