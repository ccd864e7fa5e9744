"""A stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import Error
from rest_framework.exceptions import APIException

from api.threads import in_thread
from generation.events.event import END, EventId, Kind, ReceivedEvent, frame
from generation.events.hub import EventsUnavailable, this_hub
from generation.events.listener import ListenerClosed
from generation.events.seats import Seat

HEARTBEAT_SECONDS = 15.0
LOOK_AGAIN_SECONDS = 60.0
HEARTBEAT = b": still here\n\n"
RECONNECT_AFTER = b"retry: 2000\n\n"  # milliseconds


class NoView(Exception):
    """There is nothing to see any more: it was deleted, access was withdrawn, or the database is away."""


@dataclass(frozen=True, slots=True)
class View:
    """What the database says: the data of a snapshot, and of the end if there is nothing more to come."""

    data: dict[str, Any]
    end: dict[str, Any] | None = None


Look = Callable[[], View]


async def stream(
    *,
    owner_id: object,
    generation_id: UUID | None,
    look: Look,
    last_event_id: EventId | None,
    seat: Seat | None = None,
) -> AsyncIterator[bytes]:
    """What has been missed since `last_event_id`, or else a snapshot; then everything as it happens.

    It ends with the generation; for all generations of an owner (`generation_id` None), when the server stops. Once a
    minute there is a snapshot, before which the view looks at whether the client may still see it.
    """
    yield RECONNECT_AFTER
    hub = this_hub()
    try:
        # Listening comes first, so whatever happens while the snapshot is taken comes after it.
        async with hub.listen(owner_id, generation_id=generation_id, seat=seat) as listener:
            missed = await hub.replay(listener, after=last_event_id) if last_event_id else None
            look_at = monotonic() + LOOK_AGAIN_SECONDS
            while True:
                if missed is None:
                    after, look_at = listener.after, monotonic() + LOOK_AGAIN_SECONDS
                    shown = await see(look)
                    yield snapshot(shown, after=after)
                    has_ended = shown.end is not None
                else:
                    end = next((event for event in missed if event.is_end), None) if generation_id else None
                    yield frames(missed, end=end)
                    has_ended = end is not None
                if has_ended:
                    return
                if monotonic() > look_at:
                    listener.start_anew(after=listener.after)
                missed = await listener.take(timeout_seconds=HEARTBEAT_SECONDS)
    except (EventsUnavailable, ListenerClosed, NoView):
        return  # the client connects again, and resumes or is told why it cannot


def snapshot(shown: View, *, after: EventId) -> bytes:
    """The first event, and the last one too if there is nothing more to come."""
    first = frame(Kind.SNAPSHOT, json.dumps(shown.data, ensure_ascii=False), event_id=str(after))
    if shown.end is None:
        return first
    return first + frame(Kind.FINISHED, json.dumps(shown.end, ensure_ascii=False), event_id=f"{after}{END}")


def frames(events: list[ReceivedEvent], *, end: ReceivedEvent | None) -> bytes:
    """Events as they are sent, or a sign of life if there are none.

    What comes after the end is late, as another process was slow to tell it, and no longer true.
    """
    if end is None:
        return b"".join(event.frame for event in events) or HEARTBEAT
    return b"".join(event.frame for event in events[: events.index(end)]) + end.last_frame


async def see(look: Look) -> View:
    """What there is to see now; raises NoView."""
    try:
        return await in_thread(look)
    except (APIException, ObjectDoesNotExist, Error) as error:
        raise NoView from error
