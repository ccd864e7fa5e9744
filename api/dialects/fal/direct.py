"""The endpoints of fal's direct host, `fal_client.run()` and `stream()`: one request, whose answer has the images."""

import json
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from django.db import Error
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from api.dialects.fal import signature, translate
from api.dialects.fal.views import STREAM_HEADERS, FalView, frame, outcome, submit
from api.dialects.watching import watch
from api.held import HeldResponse
from api.threads import in_thread
from generation.events.event import Kind
from generation.events.waiting import wait_until_finished
from generation.models import Generation

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 3600


class RunView(FalView):
    """`POST {owner}/{app}`."""

    def post(self, request: Request, owner: str, name: str, path: str = "") -> HttpResponseBase:
        """Make the images, and answer with them."""
        generation = submit(request, name, path)

        async def settle(held: HeldResponse) -> None:
            await wait_until_finished(generation.pk, owner_id=generation.owner_id, timeout_seconds=LONGEST_WAIT_SECONDS)
            held.status_code, body, headers = await in_thread(partial(result, generation, request))
            for header, value in headers.items():
                held[header] = value
            held.content = json.dumps(body).encode()

        headers = {"Content-Type": "application/json", "X-Fal-Request-Id": str(generation.pk)}
        return HeldResponse(json.dumps(LATE).encode(), settle=settle, status=504, headers=headers)


class StreamView(FalView):
    """`POST {owner}/{app}/stream`."""

    def post(self, request: Request, owner: str, name: str, path: str = "") -> HttpResponseBase:
        """The images while they come about, small; then the result."""
        generation = submit(request, name, path)

        async def events() -> AsyncIterator[bytes]:
            async for happening in watch(generation, seconds=LONGEST_WAIT_SECONDS):
                if happening.kind is None:
                    yield b": still here\n\n"
                elif happening.kind == Kind.PREVIEW and happening.data:
                    yield frame(translate.preview_of(generation, happening.data["image"]))
            _, body, _ = await in_thread(partial(result, generation, request))
            yield frame(body)

        headers = STREAM_HEADERS | {"X-Fal-Request-Id": str(generation.pk)}
        return StreamingHttpResponse(events(), content_type="text/event-stream", headers=headers)


class KeySetView(FalView):
    """`GET .well-known/jwks.json`: by which anybody can check the signature of a webhook."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def get(self, request: Request) -> Response:
        """The public keys."""
        return Response(signature.key_set(), headers={"Cache-Control": "public, max-age=3600"})


LATE = {"detail": "There is no result yet. Ask the queue for it.", "error_type": "request_timeout"}


def result(generation: Generation, request: Request) -> tuple[int, dict[str, Any], dict[str, str]]:
    """As it is now; it is too late for an exception, as the view has answered."""
    try:
        current = Generation.objects.select_related("model").filter(pk=generation.pk).first()
        if current is None:
            return 404, {"detail": "The request was deleted.", "error_type": "not_found"}, {}
        if not current.is_finished:
            return 504, LATE, {"X-Fal-Request-Timeout-Type": "infra"}
        return outcome(current, request)
    except (APIException, Error) as error:
        logger.warning("The result of %s cannot be read: %s", generation, error)
        return 503, {"detail": "The result cannot be read right now.", "error_type": "internal_error"}, {}
