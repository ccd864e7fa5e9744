"""An event: what is told about a generation while it waits and runs, and its way through a Redis stream."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from generation.models import Generation

EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")  # bounded: Redis takes 64 bits

END = "/end"  # after the id of the event that a stream has ended with: who comes back with it has heard everything


class Kind(StrEnum):
    """What an event is about; docs/events.md describes the data of each."""

    SNAPSHOT = "snapshot"
    STATUS = "status"
    PROGRESS = "progress"
    PREVIEW = "preview"
    POSITION = "position"
    FINISHED = "finished"
    GAP = "gap"  # never shown: events were lost, so whoever listens has to look at the database
    MARK = "mark"  # never shown: an entry to begin from, in a stream that had none


# Of these only the newest of each generation counts, so it takes the place of one that has not been sent yet.
FLEETING = frozenset({Kind.PROGRESS, Kind.PREVIEW, Kind.POSITION})
INTERNAL = frozenset({Kind.GAP, Kind.MARK})


class EventId(NamedTuple):
    """The id of an entry of a Redis stream: milliseconds since 1970, and a number within them."""

    milliseconds: int
    number: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """The id that `text` spells, None if it is none."""
        match = EVENT_ID.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None


@dataclass(frozen=True, slots=True)
class Event:
    """One to be published; `owner` is the key of the generation's owner as text.

    `draw` makes the WebP of a preview, which does not go through the stream: only the newest one is of any use.
    """

    owner: str
    kind: Kind
    generation: str
    data: Mapping[str, Any]
    draw: Callable[[], bytes] | None = None

    @property
    def all_data(self) -> dict[str, Any]:
        """What a client gets."""
        return {"generation": self.generation, **self.data}

    @property
    def fields(self) -> dict[str, str]:
        """The entry of the stream."""
        data = json.dumps(self.all_data, ensure_ascii=False)
        return {"kind": self.kind, "generation": self.generation, "data": data}


@dataclass(frozen=True)
class ReceivedEvent:
    """One that came back from the stream; `data` is JSON."""

    id: EventId
    kind: Kind
    generation: str
    data: str

    @classmethod
    def read(cls, entry_id: bytes, fields: Mapping[bytes, bytes]) -> "ReceivedEvent | None":
        """The event of an entry; None for one that a newer release of ours has written."""
        event_id = EventId.parse(entry_id.decode())
        try:
            kind = Kind(fields[b"kind"].decode())
            generation, data = fields[b"generation"].decode(), fields[b"data"].decode()
        except (KeyError, ValueError):
            return None
        return cls(event_id, kind, generation, data) if event_id else None

    def with_image(self, webp: bytes) -> "ReceivedEvent":
        """The same with a preview in its data."""
        url = f"data:image/webp;base64,{b64encode(webp).decode()}"
        return replace(self, data=json.dumps(json.loads(self.data) | {"image": url}))

    @property
    def is_end(self) -> bool:
        """Whether nothing comes after it about the same generation."""
        return self.kind == Kind.FINISHED

    @cached_property
    def frame(self) -> bytes:
        """The event as it is sent; the same bytes for all who listen."""
        return frame(self.kind, self.data, event_id=str(self.id))

    @property
    def last_frame(self) -> bytes:
        """The event as it is sent where nothing comes after it."""
        return frame(self.kind, self.data, event_id=f"{self.id}{END}")


def frame(kind: Kind, data: str, *, event_id: str) -> bytes:
    """An event of a text/event-stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return f"id: {event_id}\nevent: {kind}\ndata: {data}\n\n".encode()


def status_event(generation: Generation, *, is_stopping: bool = False) -> Event:
    """Where a generation is now; reads nothing from the database that the instance does not know."""
    data: dict[str, Any] = {"status": str(generation.status)}
    if not generation.is_finished:
        return Event(str(generation.owner_id), Kind.STATUS, str(generation.pk), data | {"is_stopping": is_stopping})
    return Event(str(generation.owner_id), Kind.FINISHED, str(generation.pk), data | outcome(generation))


def outcome(generation: Generation) -> dict[str, Any]:
    """How a finished generation ended."""
    error = {"code": generation.error_code, "detail": generation.error_detail} if generation.error_code else None
    return {"error": error}


def gap_event(owner: str) -> Event:
    """Some events of this owner are lost."""
    return Event(owner, Kind.GAP, "", {})


def mark_event(owner: str) -> Event:
    """The first entry of a stream."""
    return Event(owner, Kind.MARK, "", {})
