"""The hub of a web process: reads the streams of all who listen here over one connection, and shares them out.

It lives in one event loop and holds no thread. Another two connections are for what cannot wait until a read returns.
What no event told, because its publisher died or Redis forgot it, the database tells within seconds.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from django.db import Error, connections
from redis.exceptions import RedisError

from generation.events import seats, streams
from generation.events.event import EventId, Kind, ReceivedEvent, mark_event
from generation.events.listener import Listener, condense
from generation.events.seats import Seat
from generation.models import Generation

logger = logging.getLogger(__name__)

AT_ONCE = 500
PAUSE_BETWEEN_READS_SECONDS = 0.01  # so that a flood of events makes few reads of many
PAUSES_AFTER_FAILURE_SECONDS = (0.1, 0.5, 1.0, 2.0)
NOTE_LISTENERS_SECONDS = 10.0
ASK_DATABASE_SECONDS = 5.0
UNAVAILABLE = (RedisError, OSError)


class EventsUnavailable(Exception):
    """Redis does not answer, so nobody can listen right now."""


class Hub:
    """All listeners of one event loop."""

    def __init__(self) -> None:
        self._commands = streams.connect_async(connections=2)
        self._reader = streams.connect_async(connections=1)
        self._wake_up_call = streams.wake_up_call(uuid4().hex)
        self._woken = "0-0"
        self._listeners: dict[str, set[Listener]] = {}
        self._positions: dict[str, EventId] = {}
        self._joining = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def check(self) -> None:
        """Raise EventsUnavailable unless Redis answers."""
        if self._is_closed:
            raise EventsUnavailable("The process stops.")
        try:
            await streams.ping(self._commands)
        except UNAVAILABLE as error:
            raise EventsUnavailable(str(error)) from error

    async def take_seat(self, names: Collection[str]) -> tuple[Seat, list[int]]:
        """A seat that counts under each of the names, and how many do now. Raises EventsUnavailable."""
        try:
            return await seats.take(self._commands, names)
        except UNAVAILABLE as error:
            raise EventsUnavailable(str(error)) from error

    async def leave_seat(self, seat: Seat) -> None:
        """Free it; if that fails, it is free as soon as nobody renews it."""
        with suppress(*UNAVAILABLE):
            await seats.leave(self._commands, seat)

    @asynccontextmanager
    async def listen(
        self, owner_id: object, *, generation_id: UUID | None = None, seat: Seat | None = None
    ) -> AsyncIterator[Listener]:
        """Hear, for the length of the block, everything from its beginning on; the seat is left at its end.

        Raises EventsUnavailable.
        """
        owner = str(owner_id)
        if self._is_closed:
            raise EventsUnavailable("The process stops.")
        try:
            listener = await self._join(owner, str(generation_id) if generation_id else None, seat)
        except UNAVAILABLE as error:
            raise EventsUnavailable(str(error)) from error
        try:
            yield listener
        finally:
            self._leave(listener)

    async def replay(self, listener: Listener, *, after: EventId) -> list[ReceivedEvent] | None:
        """What `listener` has missed since the event `after`, until it began to listen; None if nobody knows.

        That event has to be there still: then all that came after it is there too. Raises EventsUnavailable.
        """
        stream, until = streams.stream_of(listener.owner), max(listener.after, after)
        start, has_begun, missed = str(after), False, list[ReceivedEvent]()
        try:
            while entries := await streams.entries_between(self._commands, stream, start, str(until), count=AT_ONCE):
                if not has_begun and entries[0][0].decode() != str(after):
                    return None
                events = [ReceivedEvent.read(*entry) for entry in entries[0 if has_begun else 1 :]]
                if any(event is not None and event.kind == Kind.GAP for event in events):
                    return None
                missed += [event for event in events if event is not None and listener.wants(event)]
                start, has_begun = f"({entries[-1][0].decode()}", True
            if not has_begun:
                return None
            listener.skip(until)
            return await self._with_images(condense(missed))
        except UNAVAILABLE as error:
            raise EventsUnavailable(str(error)) from error

    def close(self) -> None:
        """End all listeners, and take no more, so that the process may stop."""
        self._is_closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close()

    async def _join(self, owner: str, generation: str | None, seat: Seat | None) -> Listener:
        async with self._joining:
            is_new = owner not in self._positions
            position = await self._newest_entry(owner) if is_new else self._positions[owner]
            listener = Listener(owner=owner, generation=generation, after=position, seat=seat)
            listener.when_task_ends(partial(self._leave, listener))
            self._positions.setdefault(owner, position)
            self._listeners.setdefault(owner, set()).add(listener)
            try:
                self._ensure_reading()
                await streams.note_listeners(self._commands, [listener.name])
                if is_new:
                    # The read that is under way does not know of this stream: it has to return.
                    await streams.wake_up(self._commands, self._wake_up_call)
            except BaseException:
                self._leave(listener)
                raise
            return listener

    def _leave(self, listener: Listener) -> None:
        listeners = self._listeners.get(listener.owner, set())
        if listener in listeners and listener.seat is not None:
            task = asyncio.create_task(self.leave_seat(listener.seat))
            self._leaving.add(task)  # asyncio itself keeps no more than a weak reference
            task.add_done_callback(self._leaving.discard)
        listeners.discard(listener)
        listener.leave()
        if not listeners:
            self._listeners.pop(listener.owner, None)
            self._positions.pop(listener.owner, None)
        if not self._listeners:
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()

    async def _newest_entry(self, owner: str) -> EventId:
        """The end of the owner's stream; an empty one gets an entry, so that it has an end to resume from."""
        stream = streams.stream_of(owner)
        entry_id = await streams.newest_entry(self._commands, stream)
        if entry_id is None:
            entry_id = await streams.begin(self._commands, mark_event(owner))
        return EventId.parse(entry_id.decode()) or EventId(0, 0)

    def _ensure_reading(self) -> None:
        if not self._tasks:
            chores = (self._read, self._keep_known, self._ask_database)
            self._tasks = [asyncio.create_task(chore()) for chore in chores]

    async def _read(self) -> None:
        failures = 0
        while True:
            try:
                if failures:
                    await streams.ping(self._reader)
                    self._start_all_anew()  # what was published meanwhile may be lost
                await self._read_once()
                if failures:
                    logger.warning("Redis answers again.")
                    failures = 0
                await asyncio.sleep(PAUSE_BETWEEN_READS_SECONDS)
            except UNAVAILABLE as error:
                if not failures:
                    logger.warning("No live events, Redis answers: %s", error)
                await asyncio.sleep(PAUSES_AFTER_FAILURE_SECONDS[min(failures, len(PAUSES_AFTER_FAILURE_SECONDS) - 1)])
                failures += 1
            except Exception:
                logger.exception("Reading live events failed.")
                await asyncio.sleep(PAUSES_AFTER_FAILURE_SECONDS[-1])

    async def _read_once(self) -> None:
        owners = {streams.stream_of(owner).encode(): owner for owner in self._positions}
        wanted = {self._wake_up_call: self._woken}
        wanted |= {stream.decode(): str(self._positions[owner]) for stream, owner in owners.items()}
        for stream, entries in await streams.new_entries(self._reader, wanted, count=AT_ONCE):
            if stream in owners:
                events = [event for entry in entries if (event := ReceivedEvent.read(*entry))]
                last = EventId.parse(entries[-1][0].decode())
                self._share_out(owners[stream], await self._with_images(condense(events)), last=last)
            else:
                self._woken = entries[-1][0].decode()

    def _share_out(self, owner: str, events: list[ReceivedEvent], *, last: EventId | None) -> None:
        position = self._positions.get(owner)
        if position is None:
            return  # everybody has left while the read was under way
        for event in events:
            if event.id > position:  # or else everybody has left, and somebody has come meanwhile
                for listener in self._listeners[owner]:
                    listener.offer(event)
        self._positions[owner] = max(position, last or position)

    async def _with_images(self, events: list[ReceivedEvent]) -> list[ReceivedEvent]:
        """The same with what previews show; without those that are gone already."""
        drawn = [event.generation for event in events if event.kind == Kind.PREVIEW]
        if not drawn:
            return events
        webps = await streams.previews(self._commands, drawn)
        return [
            event.with_image(webps[event.generation]) if event.kind == Kind.PREVIEW else event
            for event in events
            if event.kind != Kind.PREVIEW or event.generation in webps
        ]

    def _start_all_anew(self) -> None:
        for owner, listeners in self._listeners.items():
            for listener in listeners:
                listener.start_anew(after=self._positions[owner])

    async def _keep_known(self) -> None:
        """Workers make previews, and the housekeeper counts positions, only for those that are known to listen."""
        while True:
            await asyncio.sleep(NOTE_LISTENERS_SECONDS)
            listening = [listener for listeners in self._listeners.values() for listener in listeners]
            with suppress(*UNAVAILABLE):  # the reader says so
                await streams.note_listeners(self._commands, {listener.name for listener in listening})
                await seats.keep(self._commands, [listener.seat for listener in listening if listener.seat])

    async def _ask_database(self) -> None:
        """Find generations that have finished without a word: an event is a hint, the database is the truth."""
        while True:
            await asyncio.sleep(ASK_DATABASE_SECONDS)
            listened_to = [listener for listeners in self._listeners.values() for listener in listeners]
            ids = {listener.generation for listener in listened_to if listener.generation}
            try:
                finished = await asyncio.to_thread(finished_among, ids)
            except Error as error:
                logger.warning("Live events rely on Redis alone, the database answers: %s", error)
                continue
            for listener in listened_to:
                if listener.generation in finished and listener.owner in self._positions:
                    listener.start_anew(after=self._positions[listener.owner])


def finished_among(ids: Iterable[str]) -> set[str]:
    """Those of the generations that are finished, or gone."""
    try:
        unfinished = Generation.objects.unfinished().filter(pk__in=ids).values_list("pk", flat=True)
        return set(ids) - set(map(str, unfinished))
    finally:
        connections.close_all()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def this_hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
