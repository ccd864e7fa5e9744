"""A lock that many may share, or one may have alone; and a plain one for those who may change their mind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_AGAIN_SECONDS = 0.1


@contextmanager
def patiently(lock: threading.Lock, while_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock for the block; until then `while_waiting` is called, and what it raises ends the wait."""
    while not lock.acquire(timeout=LOOK_AGAIN_SECONDS):
        while_waiting()
    try:
        yield
    finally:
        lock.release()


class SharedOrExclusive:
    """Who wants it alone waits until nobody shares it, and nobody begins to share it meanwhile."""

    def __init__(self) -> None:
        self._sharing = 0
        self._wanting = 0
        self._is_exclusive = False
        self._changed = threading.Condition()

    @contextmanager
    def shared(self, *, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Share it for the length of the block; not to be nested.

        Until then `while_waiting` is called now and then, and what it raises ends the wait.
        """
        while not self._join():
            while_waiting()
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    def _join(self) -> bool:
        """Whether it could be shared within LOOK_AGAIN_SECONDS."""
        with self._changed:
            is_free = self._changed.wait_for(lambda: not self._wanting and not self._is_exclusive, LOOK_AGAIN_SECONDS)
            self._sharing += is_free
            return is_free

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Have it alone for the length of the block; not to be nested."""
        with self._changed:
            self._wanting += 1
            try:
                self._changed.wait_for(lambda: not self._sharing and not self._is_exclusive)
                self._is_exclusive = True
            finally:
                self._wanting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._is_exclusive = False
                self._changed.notify_all()
