"""The events of one generation until its end, for streams in the words of a dialect, without a thread that waits."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from rest_framework.request import Request

from api.events.views import take_seat
from api.threads import in_thread
from generation.events.event import Kind
from generation.events.hub import EventsUnavailable, finished_among, this_hub
from generation.events.listener import ListenerClosed
from generation.events.seats import Seat
from generation.models import Generation

HEARTBEAT_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that has happened to the generation; `kind` is None for nothing but the passing of time."""

    kind: Kind | None = None
    data: dict[str, Any] | None = None


def seat_for(request: Request) -> Seat | None:
    """A seat for one more stream, as in our own API; raises LimitReached.

    None for who may have any number, and while Redis is away: then the database is asked instead.
    """
    if not isinstance(request._request, ASGIRequest):
        return None
    try:
        return take_seat(request)
    except EventsUnavailable:
        return None


async def watch(generation: Generation, *, seconds: float, seat: Seat | None = None) -> AsyncIterator[Happening]:
    """What happens until the generation ends, `seconds` are over or the process stops; the end itself is not told."""
    until = monotonic() + seconds
    try:
        async with this_hub().listen(generation.owner_id, generation_id=generation.pk, seat=seat) as listener:
            has_ended = await in_thread(lambda: is_over(generation))
            while not has_ended and monotonic() < until:
                patience = min(HEARTBEAT_SECONDS, max(0.0, until - monotonic()))
                events = await listener.take(timeout_seconds=patience)
                if events is None:  # some may be missing
                    has_ended = await in_thread(lambda: is_over(generation))
                    continue
                for event in events:
                    yield Happening(event.kind, json.loads(event.data))
                has_ended = any(event.is_end for event in events)
                if not events:
                    yield Happening()
    except EventsUnavailable:
        while monotonic() < until and not await in_thread(lambda: is_over(generation)):
            yield Happening()
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except ListenerClosed:
        return


def is_over(generation: Generation) -> bool:
    """Whether it is finished, or gone, by the database."""
    return bool(finished_among({str(generation.pk)}))
