"""Publishes events from a thread of its own, so that whoever has something to tell never waits for Redis.

The newest progress of each generation is enough; of everything else each event counts. While Redis is away events
wait, so many and no more: what then gets lost is told as a gap, and listeners look at the database.
"""

import atexit
import logging
import time
from collections import deque
from threading import Condition, Thread

from redis import Redis
from redis.exceptions import RedisError

from generation.events import streams
from generation.events.event import FLEETING, Event, gap_event, status_event
from generation.models import Generation

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
MOST_AT_ONCE = 500
FLEETING_SECONDS = 0.2  # between two events of the same kind about the same generation
LOOK_FOR_LISTENERS_SECONDS = 1.0
PAUSE_AFTER_FAILURE_SECONDS = 2.0
LAST_WORDS_SECONDS = 1.0
AWAY = (RedisError, OSError)


class Publisher:
    """A queue with a thread behind it; any thread may put events in, at the price of a lock."""

    def __init__(self) -> None:
        self.heard: frozenset[str] = frozenset()
        self.is_failing = False
        self._events: deque[Event] = deque()
        self._fleeting: dict[tuple[str, str], Event] = {}
        self._gaps: set[str] = set()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._is_idle = True
        self._fleeting_at = 0.0
        self._looked_at = 0.0
        self._is_asked = False

    def publish(self, event: Event) -> None:
        """Have `event` published soon; never waits and never raises."""
        with self._changed:
            if event.kind in FLEETING:
                self._fleeting[event.kind, event.generation] = event
            else:
                for kind in FLEETING:  # older than this one, and no longer true
                    self._fleeting.pop((kind, event.generation), None)
                self._events.append(event)
                if len(self._events) > MOST_WAITING:
                    self._gaps.add(self._events.popleft().owner)
            self._ensure_thread()

    def ask_who_listens(self) -> frozenset[str]:
        """Who was known to listen when Redis was asked last; has it asked again soon."""
        with self._changed:
            self._is_asked = True
            self._ensure_thread()
            return self.heard

    def hears(self, owner: str, generation: str) -> bool:
        """Whether somebody listened to the generation, or to all of its owner's, a second ago."""
        return f"owner:{owner}" in self.heard or f"generation:{generation}" in self.heard

    def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until what was put in so far is published or given up; False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(self._has_nothing_left, timeout_seconds)

    def _has_nothing_left(self) -> bool:
        return self._is_idle and not (self._events or self._gaps or self._fleeting or self._is_asked)

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name="events", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        redis: Redis | None = None
        while True:
            with self._changed:
                self._is_idle = True
                self._changed.notify_all()
                while not self._is_due():
                    self._changed.wait(self._seconds_to_wait())
                self._is_idle = False
            try:
                redis = redis or streams.connect()
                self._send(redis)
                self.is_failing = False
            except Exception as error:
                redis = None
                self._note(error)
                time.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    def _is_due(self) -> bool:
        return bool(self._events or self._gaps or self._is_asked) or (
            bool(self._fleeting) and self._seconds_to_wait() == 0
        )

    def _seconds_to_wait(self) -> float | None:
        """Until what is fleeting may be sent again; None if there is nothing of the kind."""
        if not self._fleeting:
            return None
        return max(0.0, self._fleeting_at + FLEETING_SECONDS - time.monotonic())

    def _send(self, redis: Redis) -> None:
        with self._changed:
            batch = [self._events.popleft() for _ in range(min(len(self._events), MOST_AT_ONCE))]
            gaps, self._gaps = self._gaps, set()
            is_asked, self._is_asked = self._is_asked, False
            fleeting = list(self._fleeting.values()) if self._seconds_to_wait() == 0 else []
            if fleeting:
                self._fleeting.clear()
                self._fleeting_at = time.monotonic()
        try:
            if fleeting or is_asked:
                self._look_for_listeners(redis)
                fleeting = [event for event in fleeting if self.hears(event.owner, event.generation)]
            if batch or gaps or fleeting:
                streams.append(redis, [*map(gap_event, gaps), *batch, *fleeting])
        except AWAY:
            with self._changed:
                self._events.extendleft(reversed(batch))
                self._gaps |= gaps
            raise
        except Exception:  # an event that cannot be written must not hold up all others for ever
            with self._changed:
                self._gaps |= gaps | {event.owner for event in batch}
            raise

    def _look_for_listeners(self, redis: Redis) -> None:
        if time.monotonic() - self._looked_at >= LOOK_FOR_LISTENERS_SECONDS:
            self._looked_at = time.monotonic()
            self.heard = streams.read_listeners(redis)

    def _note(self, error: Exception) -> None:
        if not self.is_failing:
            logger.warning("Live events wait: %s", error, exc_info=None if isinstance(error, AWAY) else error)
        self.is_failing = True


publisher = Publisher()


def tell(generation: Generation, *, is_stopping: bool = False) -> None:
    """Publish where `generation` is now; call it after the commit."""
    publisher.publish(status_event(generation, is_stopping=is_stopping))


@atexit.register
def say_last_words() -> None:
    """A process that ends has often just released or finished something."""
    if not publisher.is_failing:
        publisher.flush(timeout_seconds=LAST_WORDS_SECONDS)
