"""Answers that wait for a generation to end: `Prefer: wait=N` (RFC 7240), without a thread that waits."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from api.headers import preference
from api.held import HeldResponse
from api.threads import in_thread
from generation import operations
from generation.errors import AlreadyFinished
from generation.events.waiting import wait_until_finished
from generation.lifecycle import CancelReason
from generation.models import Generation

Answer = TypeVar("Answer")
Show = Callable[[Generation], dict[str, Any]]


def as_preferred(
    request: Request,
    response: Response,
    generation: Generation,
    *,
    show: Show,
    late_status: int,
    cancels_on_disconnect: bool = False,
) -> HttpResponseBase:
    """`response` at once, or when `generation` has ended, or when the time that the client gave is over.

    One that has ended is `200`, and when time ran out it is `late_status`. A client that hangs up before that changes
    nothing, unless it has asked for a cancel.
    """
    preferred = preference(request)
    if preferred.applied:
        response["Preference-Applied"] = preferred.applied
    seconds = preferred.wait_seconds
    if seconds is None or request.accepted_renderer.format != JSONRenderer.format:  # a page looks again by itself
        return response
    if generation.is_finished:
        response.status_code = status.HTTP_200_OK
        response.headers.pop("Retry-After", None)
        return response

    async def settle(held: HeldResponse) -> None:
        try:
            has_ended = await wait_until_finished(generation.pk, owner_id=generation.owner_id, timeout_seconds=seconds)
        except asyncio.CancelledError:  # the client has hung up
            if cancels_on_disconnect:
                await in_thread(partial(cancel, generation.pk))
            raise
        with suppress(ObjectDoesNotExist, Error):  # deleted meanwhile, or nobody knows: the answer stays as it was
            held.content = await in_thread(look_again)
            held.status_code = status.HTTP_200_OK if has_ended else late_status
            if has_ended:
                held.headers.pop("Retry-After", None)

    def look_again() -> bytes:
        return JSONRenderer().render(show(Generation.objects.select_related("model").get(pk=generation.pk)))

    headers = {**response.headers, "Content-Type": JSONRenderer.media_type}
    return HeldResponse(
        JSONRenderer().render(response.data), settle=settle, status=response.status_code, headers=headers
    )


def cancel(generation_id: UUID) -> None:
    """Cancel what nobody waits for any more."""
    with suppress(ObjectDoesNotExist, AlreadyFinished):
        generation = Generation.objects.select_related("model").get(pk=generation_id)
        operations.cancel(generation, reason=CancelReason.DISCONNECT)
