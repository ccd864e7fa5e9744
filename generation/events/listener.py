"""One who listens: a bounded queue of events between the hub and a connection."""

import asyncio
from collections.abc import Callable, Iterable

from generation.events.event import FLEETING, INTERNAL, EventId, Kind, ReceivedEvent
from generation.events.seats import Seat

MOST_PENDING = 500
GRACE_SECONDS = 5.0


class ListenerClosed(Exception):
    """The hub is closing, or the listener was too slow; whoever connects again misses nothing."""


class Listener:
    """Hears of one generation, or of all of its owner's if `generation` is None, from the event `after` on.

    It belongs to the task that makes it.
    """

    def __init__(self, *, owner: str, generation: str | None, after: EventId, seat: Seat | None = None) -> None:
        self.owner = owner
        self.seat = seat
        self.generation = generation
        self.after = after
        self._pending: dict[object, ReceivedEvent] = {}
        self._has_news = asyncio.Event()
        self._is_closed = False
        self._has_gap = False
        self._task = asyncio.current_task()
        self._on_task_end: Callable[[object], None] = lambda _: None
        self._last_call: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """What it listens to."""
        return f"generation:{self.generation}" if self.generation else f"owner:{self.owner}"

    def offer(self, event: ReceivedEvent) -> None:
        """Put an event into the queue, if it is for this listener; a full queue closes it."""
        if self._is_closed or event.id <= self.after:
            return
        self.after = event.id
        if event.kind == Kind.GAP:
            self.start_anew(after=event.id)
        elif self.wants(event):
            key = (event.kind, event.generation) if event.kind in FLEETING else event.id
            self._pending.pop(key, None)  # to the end with it: the ids have to grow
            self._pending[key] = event
            if len(self._pending) > MOST_PENDING:
                self.close()
            self._has_news.set()

    def wants(self, event: ReceivedEvent) -> bool:
        """Whether the event is about what it listens to."""
        return event.kind not in INTERNAL and self.generation in (None, event.generation)

    def skip(self, until: EventId) -> None:
        """Leave out what comes up to `until`: it is known already."""
        self.after = max(self.after, until)
        self._pending = {key: event for key, event in self._pending.items() if event.id > until}

    def start_anew(self, *, after: EventId) -> None:
        """Have the listener look at the database, for events up to `after` may be missing."""
        self.after = after
        self._pending.clear()
        self._has_gap = True
        self._has_news.set()

    def close(self) -> None:
        """End it, and what is in its queue; a task that does not notice, as its client reads nothing, is cancelled."""
        self._pending.clear()
        self._is_closed = True
        self._has_news.set()
        if self._task is not None and self._last_call is None:
            self._last_call = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._task.cancel)

    def when_task_ends(self, callback: Callable[[], None]) -> None:
        """Call back even if the task is cancelled while it sends: what waits in a `yield` then hears nothing of it."""
        self._on_task_end = lambda _: callback()
        if self._task is not None:
            self._task.add_done_callback(self._on_task_end)

    def leave(self) -> None:
        """Its task has noticed, or has ended."""
        if self._last_call is not None:
            self._last_call.cancel()
        if self._task is not None:
            self._task.remove_done_callback(self._on_task_end)
            self._task = None

    async def take(self, *, timeout_seconds: float | None = None) -> list[ReceivedEvent] | None:
        """All that has come, in order, or nothing after the time-out; None if events may be missing.

        Raises ListenerClosed.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._has_news.wait()
        except TimeoutError:
            return []
        if self._is_closed:
            raise ListenerClosed
        if self._has_gap:
            self._has_gap = False
            if not self._pending:
                self._has_news.clear()
            return None
        self._has_news.clear()
        events = list(self._pending.values())
        self._pending.clear()
        return events


def condense(events: Iterable[ReceivedEvent]) -> list[ReceivedEvent]:
    """What a listener who was away has to hear: of what is fleeting only the newest."""
    newest = {(event.kind, event.generation): event.id for event in events if event.kind in FLEETING}
    return [event for event in events if newest.get((event.kind, event.generation), event.id) == event.id]
