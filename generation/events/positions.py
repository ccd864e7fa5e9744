"""Tells those who listen where their waiting generations are in the line, when that has changed."""

from collections import Counter
from typing import Any
from uuid import UUID

from django.db.models import Q

from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.models import Generation

MOST_OF_AN_OWNER = 50  # those nearest to the front; who has more waiting looks at the others


class Positions:
    """What one housekeeper has told; several repeat each other, which does no harm."""

    def __init__(self) -> None:
        self._told: dict[UUID, int] = {}

    def tell_changes(self) -> int:
        """Publish what has changed since the last time; returns how many events that makes."""
        heard = publisher.ask_who_listens()
        wanted = wanted_by(heard)
        waiting = Generation.objects.queued().filter(wanted)
        if not heard or not waiting.exists():
            self._told = {}
            return 0
        line: Any = Generation.objects.filter(model__in=waiting.order_by().values("model")).in_line(wanted)
        now: dict[UUID, int] = {}
        of_owner: Counter[object] = Counter()
        events = []
        for pk, owner_id, position in line.order_by("position").values_list("pk", "owner_id", "position").iterator():
            of_owner[owner_id] += 1
            if of_owner[owner_id] <= MOST_OF_AN_OWNER or f"generation:{pk}" in heard:
                now[pk] = position
                if self._told.get(pk) != position:
                    events.append(Event(str(owner_id), Kind.POSITION, str(pk), {"position": position}))
        self._told = now
        for event in events:
            publisher.publish(event)
        return len(events)


def wanted_by(heard: frozenset[str]) -> Q:
    """The generations that these names of listeners mean."""
    names = [name.partition(":") for name in heard]
    owners = [key for what, _, key in names if what == "owner"]
    generations = [key for what, _, key in names if what == "generation"]
    return Q(owner__in=owners) | Q(pk__in=generations)


positions = Positions()
