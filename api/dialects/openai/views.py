"""The endpoints of OpenAI's Images API: parse, one call inward, and an answer that waits for the images."""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import cached_property, partial
from http import HTTPStatus
from time import monotonic
from typing import Any

from django.db import Error
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException, NotFound
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import credential_of, user_of
from api.body import body_of
from api.dialects import view
from api.dialects.files import address_of, link_to
from api.dialects.openai import refusals, translate
from api.dialects.openai.schema import EditRequest, ImageRequest
from api.dialects.openai.translate import Style
from api.dialects.watching import watch
from api.generations.images import read
from api.headers import idempotency_key
from api.held import HeldResponse
from api.threads import in_thread
from generation import operations
from generation.engines import encoding
from generation.events.event import Kind
from generation.events.waiting import wait_until_finished
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation
from generation.parameters import find_model
from generation.terms import Asked, Terms

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 590  # the client itself gives up after 600
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class OpenAIView(view.DialectView):
    """Errors as `{"error": {message, type, param, code}}`."""

    error_of = staticmethod(translate.error_of)


class NothingHere(OpenAIView, view.NothingHere):
    """Any other path."""


class ModelsView(OpenAIView):
    """`GET models`: what may be asked for."""

    def get(self, request: Request) -> Response:
        """All enabled models."""
        models = [translate.model_of(model) for model in DiffusionModel.objects.enabled()]
        return Response({"object": "list", "data": models})


class ModelView(OpenAIView):
    """`GET models/{id}`."""

    def get(self, request: Request, slug: str) -> Response:
        """One enabled model."""
        model = DiffusionModel.objects.enabled().filter(slug=slug).first()
        if model is None:
            raise NotFound(f"The model '{slug}' does not exist.")
        return Response(translate.model_of(model))


class GenerationsView(OpenAIView):
    """`POST images/generations`."""

    parser_classes: list[Any] = [JSONParser]
    takes: type[ImageRequest] = ImageRequest
    kind = "image_generation"

    def post(self, request: Request) -> HttpResponseBase:
        """Submit, and answer with the images or a stream of events when there are any."""
        generation = submit(request, self.asked)
        style = Style.of(self.body, kind=self.kind)
        respond = stream if style.is_stream else hold
        return respond(request, generation, style)

    @cached_property
    def body(self) -> dict[str, Any]:
        """What was sent, checked, with the bytes of files in their place."""
        serializer = self.takes(data=body_of(self.request))
        serializer.is_valid(raise_exception=True)
        return read_files(serializer.validated_data)

    @cached_property
    def asked(self) -> Asked:
        """What that asks for."""
        wishes = translate.wishes_of(self.body, find_model(self.body.get("model")))
        return Asked(wishes, Terms(idempotency_key=idempotency_key(self.request)))

    def handle_exception(self, error: Exception) -> Response:
        """Refuse, and note it if the client will try again by itself."""
        response = super().handle_exception(error)
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS or response.status_code >= 500:
            with suppress(Exception):  # what cannot be read now is made of no further try either
                refusals.note(self.asked, owner_id=user_of(self.request).pk)
        return response


class EditsView(GenerationsView):
    """`POST images/edits`."""

    parser_classes = [MultiPartParser]
    takes = EditRequest
    kind = "image_edit"


def read_files(body: dict[str, Any]) -> dict[str, Any]:
    """The same with the bytes of the files in their place."""
    files: dict[str, Any] = {name: body[name].read() for name in ("mask",) if name in body}
    if "image" in body:
        files["image"] = [file.read() for file in body["image"]]
    return body | files


def submit(request: Request, asked: Asked) -> Generation:
    """Submit it; if it is a further try of a client that got no answer, it is what the first one has made."""
    owner = user_of(request)
    is_second_try = request.headers.get("X-Stainless-Retry-Count", "0") not in ("", "0")
    act: Callable[..., Generation] = operations.submit
    if is_second_try and not refusals.take(asked, owner_id=owner.pk):
        act = operations.submit_again
    return act(asked.wishes, owner=owner, credential=credential_of(request), terms=asked.terms)


def hold(request: Request, generation: Generation, style: Style) -> HttpResponseBase:
    """The answer, when the generation has ended."""

    async def settle(held: HeldResponse) -> None:
        seconds, until = LONGEST_WAIT_SECONDS, monotonic() + LONGEST_WAIT_SECONDS
        has_ended = await wait_until_finished(generation.pk, owner_id=generation.owner_id, timeout_seconds=seconds)
        if not has_ended and monotonic() < until:  # this process stops; the client finds the generation at another one
            held.status_code, body = translate.stopping()
            held["X-Should-Retry"] = "true"
        else:
            held.status_code, body = await in_thread(partial(outcome, request, generation, style))
        held.content = await in_thread(lambda: json.dumps(body).encode())  # megabytes, with images in it

    headers = {**headers_of(generation), "Content-Type": "application/json"}
    status, body = outcome(request, generation, style) if generation.is_finished else translate.failure_of(generation)
    return HeldResponse(json.dumps(body).encode(), settle=settle, status=status, headers=headers)


def stream(request: Request, generation: Generation, style: Style) -> HttpResponseBase:
    """The answer as events: previews, then each image."""

    async def events() -> AsyncIterator[bytes]:
        sent = 0
        async for happening in watch(generation, seconds=LONGEST_WAIT_SECONDS):
            data = happening.data or {}
            if happening.kind is None:
                yield b": still here\n\n"
            elif happening.kind == Kind.PREVIEW and sent < style.partial_images and is_due(data, sent, style):
                picture = await in_thread(partial(converted, data["image"], generation.image_format))
                yield frame(translate.partial_event(generation, picture=picture, index=sent, style=style))
                sent += 1
        for event in await in_thread(partial(last_events, request, generation, style)):
            yield frame(event)

    headers = {**headers_of(generation), **STREAM_HEADERS}
    return StreamingHttpResponse(events(), content_type="text/event-stream", headers=headers)


def headers_of(generation: Generation) -> dict[str, str]:
    """There is a generation now, so a client must not make another one, whatever comes."""
    return {"X-Request-Id": str(generation.pk), "X-Should-Retry": "false"}


def is_due(progress: dict[str, Any], sent: int, style: Style) -> bool:
    """Partial images are spread over the steps."""
    return progress["step"] * (style.partial_images + 1) >= progress["total"] * (sent + 1)


def converted(data_url: str, image_format: str) -> str:
    """A preview in the format that was asked for, in Base64."""
    data = b64decode(data_url.partition(",")[2])
    return b64encode(encoding.convert(data, image_format=image_format)).decode()


def frame(event: dict[str, Any]) -> bytes:
    """One event as it is sent."""
    return f"event: {event.get('type', 'error')}\ndata: {json.dumps(event)}\n\n".encode()


def outcome(request: Request, generation: Generation, style: Style) -> tuple[int, dict[str, Any]]:
    """The status code and the body; it is too late for an exception, as the view has answered."""
    try:
        return found(request, generation, style)
    except (APIException, Error) as error:
        logger.warning("The result of %s cannot be read: %s", generation, error)
        message = f"The result cannot be read right now. Ask for /api/generations/{generation.pk}/ in a while."
        return 503, translate.error(503, code="unavailable", message=message)


def found(request: Request, generation: Generation, style: Style) -> tuple[int, dict[str, Any]]:
    """The status code and the body, as database and storage have them now."""
    current = Generation.objects.select_related("model").filter(pk=generation.pk).first()
    if current is None:
        return 404, translate.error(404, code="not_found", message="The generation was deleted.")
    if current.status != Status.SUCCEEDED:
        return translate.failure_of(current)
    return 200, translate.answer(current, images_of(current, request, style))


def last_events(request: Request, generation: Generation, style: Style) -> list[dict[str, Any]]:
    """The end of a stream: the images, or the error."""
    status, body = outcome(request, generation, style)
    if status != 200:
        return [body]
    current = Generation.objects.get(pk=generation.pk)
    as_text = Style(has_links=False, is_stream=True, partial_images=0, kind=style.kind)
    images = body["data"] if not style.has_links else images_of(current, request, as_text)
    return [translate.completed_event(current, image=image, style=style) for image in images]


def images_of(generation: Generation, request: Request, style: Style) -> list[dict[str, Any]]:
    """The entries of a response."""
    images = list(generation.images.all())
    if style.has_links:
        return [translate.image_as_link(link_to(image, address=address_of(request)), image) for image in images]
    return [translate.image_as_text(read(str(image.file.name)), image) for image in images]
