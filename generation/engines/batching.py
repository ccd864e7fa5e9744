"""The engine's thread: forwards that several generations ask for at the same moment become one.

Threads call `Batcher.run` and wait. The batcher's own thread picks calls with equal keys, merges their rows, runs one
forward and gives each caller its rows of the output. It never waits for a straggler longer than LINGER_SECONDS
while the device idles; while the device works, waiting for the others of a group costs nothing, but a group that
others were served before waits no longer than PATIENCE_SECONDS.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch

from generation.engines import rows
from generation.engines.callee import Callee
from generation.engines.errors import DeviceLost
from generation.engines.flight import Flight
from generation.engines.knees import OneAtATime
from generation.engines.rows import Call, Disassembler

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.002
PATIENCE_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 0.0005
_CHECK_WHILE_WAITING_SECONDS = 0.25


def _go_on() -> None:
    """What who waits for a place does meanwhile, if nothing else."""


class Forward(Protocol):
    """What the batcher runs calls with."""

    def __call__(self, call: Call) -> Any:
        """The output of a merged call."""

    def most_rows(self, call: Call) -> int:
        """How many rows of calls like this one should share a forward."""

    def forget(self, callees: Collection[str]) -> None:
        """Free what is kept for callees of these names."""


@dataclass(eq=False, slots=True)
class Member:
    """A generation in its denoise loop: the batcher expects its next call soon after the last one."""

    key: Hashable = None
    count: int = 0
    most_rows: Callable[[], int] = int  # 0, until there is a first call


@dataclass(eq=False, slots=True)
class _Request:
    call: Call
    member: Member | None
    arrived_at: float
    inputs: torch.cuda.Event | None
    passed_over_at: float | None = None
    output: Future[Any] = field(default_factory=Future)


class Batcher:
    """One thread, one stream, one forward at a time. Any thread may call any method but its own may not."""

    def __init__(self, forward: Forward, *, flight: Flight, name: str) -> None:
        self._forward = forward
        self._flight = flight
        self._waiting: dict[Hashable, list[_Request]] = {}  # the group that was served longest ago comes first
        self._members: set[Member] = set()
        self._queue: deque[Member] = deque()  # those that wait to become members
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # what the batcher's own thread waits for, and nobody else
        self._left = threading.Condition(lock)  # what those in the queue wait for: a call must not wake them all
        self._idle_since = time.monotonic()
        self._is_closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @contextmanager
    def membership(self) -> Iterator[Member]:
        """A member for one generation; when the block ends, nobody waits for it any more."""
        member = Member()
        try:
            yield member
        finally:
            self.leave(member)

    def run(self, call: Call, *, member: Member | None = None, while_waiting: Callable[[], object] = _go_on) -> Any:
        """Wait for the output of the call.

        The first call of a member waits until there is room for its rows, and calls `while_waiting` every now and
        then; what that raises comes out. What the forward raises comes out too.
        """
        request = _Request(call, member, time.monotonic(), inputs=self._flight.mark())
        with self._changed:
            if member is not None:
                if member not in self._members:
                    self._admit(member, call, while_waiting)
                    request.arrived_at = time.monotonic()
                member.key, member.count = call.key, call.count
            if self._is_closed:
                raise self._failure or RuntimeError("The engine is closed.")
            self._waiting.setdefault(call.key, []).append(request)
            self._changed.notify()
        output, departed = request.output.result()
        self._flight.arrive(output, departed=departed)
        return output

    def leave(self, member: Member) -> None:
        """The member's rows are free from now on."""
        with self._changed:
            self._members.discard(member)
            if member in self._queue:
                self._queue.remove(member)
            self._let_in()
            self._notify_all()

    def close(self) -> None:
        """End the thread once it has run what it has been asked for."""
        with self._changed:
            self._is_closed = True
            self._notify_all()
        self._thread.join()

    def forget(self, callees: Collection[str]) -> None:
        """Free what is kept for callees of these names."""
        self.run_alone(lambda: self._forward.forget(callees))

    def run_alone(self, function: Callable[[], Any]) -> Any:
        """Wait for what the function returns when it is called in the batcher's thread, between two forwards."""
        callee = Callee.of(function, name="", limits=OneAtATime())
        return self.run(Disassembler(callee).keep_whole())

    def _admit(self, member: Member, call: Call, while_waiting: Callable[[], object]) -> None:
        """Wait, first come first served, until the rows of all members that share with `call` fill one forward."""
        member.key, member.count, member.most_rows = call.key, call.count, partial(self._forward.most_rows, call)
        self._queue.append(member)
        self._let_in()
        while member not in self._members and not self._is_closed:
            self._left.wait(_CHECK_WHILE_WAITING_SECONDS)
            self._left.release()  # it may take long, or wait for a thread that needs the batcher
            try:
                while_waiting()
            except BaseException:
                self.leave(member)
                raise
            finally:
                self._left.acquire()

    def _let_in(self) -> None:
        """Make members of those who wait, as far as there is room.

        Whoever leaves does it for them: until they woke up, forwards would go without them.
        """
        for member in list(self._queue):
            if not self._is_full(member):
                self._queue.remove(member)
                self._members.add(member)

    def _is_full(self, member: Member) -> bool:
        before = next(other for other in self._queue if other.key == member.key)
        taken = sum(other.count for other in self._members if other.key == member.key)
        return before is not member or (taken > 0 and taken + member.count > member.most_rows())

    def _notify_all(self) -> None:
        self._changed.notify()
        self._left.notify_all()

    # --- In the batcher's own thread ----------------------------------------------------------------------

    def _work(self) -> None:
        batch: list[_Request] | None = None
        try:
            with torch.no_grad(), self._flight.stream():
                while (batch := self._next_batch()) is not None:
                    self._run(batch)
                    batch = None  # it would keep tensors alive until the next one
                    self._flight.wait_for_room()
        except BaseException as error:  # a device that failed: nobody may wait for this thread any more
            logger.exception("The engine's thread has ended.")
            self._fail(error, unfinished=batch or [])

    def _fail(self, error: BaseException, *, unfinished: list[_Request]) -> None:
        failure = DeviceLost(
            f"The engine's thread has ended and needs a fresh process: {type(error).__name__}: {error}"
        )
        failure.__cause__ = error
        with self._changed:
            self._is_closed, self._failure = True, failure
            for request in [*unfinished, *(request for requests in self._waiting.values() for request in requests)]:
                if not request.output.done():
                    request.output.set_exception(failure)
            self._waiting.clear()
            self._notify_all()

    def _next_batch(self) -> list[_Request] | None:
        """Wait for a group that is ripe; None once closed and empty."""
        with self._changed:
            while self._waiting or not self._is_closed:
                if (key := self._ripe_group()) is not None:
                    return self._take(key)
                self._changed.wait(_LOOK_AGAIN_SECONDS if self._waiting else None)
                if not self._waiting:
                    self._idle_since = time.monotonic()
            return None

    def _ripe_group(self) -> Hashable | None:
        """The first group that nobody is missing from, that fills a forward, or that was passed over for long enough.

        Who is no member is never waited for. If there is none and the device has idled for long enough, the group that
        was served longest ago.
        """
        now = time.monotonic()
        passed_over: list[_Request] = []
        for key, requests in self._waiting.items():
            expected = sum(member.key == key for member in self._members)
            arrived = sum(request.member in self._members for request in requests)
            since = requests[0].passed_over_at
            is_impatient = since is not None and now - since >= PATIENCE_SECONDS
            if arrived >= expected or is_impatient or self._fills_a_forward(requests):
                for request in passed_over:
                    request.passed_over_at = request.passed_over_at or now
                return key
            passed_over.append(requests[0])
        if not self._waiting or not self._flight.is_idle():
            self._idle_since = time.monotonic()
            return None
        key, requests = next(iter(self._waiting.items()))
        waited = time.monotonic() - max(self._idle_since, requests[0].arrived_at)
        return key if waited >= LINGER_SECONDS else None

    def _fills_a_forward(self, requests: list[_Request]) -> bool:
        return sum(request.call.count for request in requests) >= self._forward.most_rows(requests[0].call)

    def _take(self, key: Hashable) -> list[_Request]:
        """The longest waiting calls of the group, as many as fit into one forward; its next turn comes last."""
        most_rows = self._forward.most_rows(self._waiting[key][0].call)
        requests = self._waiting.pop(key)
        taken, count = 0, 0
        while taken < len(requests) and (taken == 0 or count + requests[taken].call.count <= most_rows):
            count += requests[taken].call.count
            taken += 1
        if requests[taken:]:
            self._waiting[key] = requests[taken:]
        return requests[:taken]

    def _run(self, batch: list[_Request]) -> None:
        """Run the calls as one; where that fails, one by one, so that only the guilty fail."""
        if not self._run_as_one(batch):
            for request in batch:
                self._run_as_one([request])

    def _run_as_one(self, batch: list[_Request]) -> bool:
        """Whether the callers have their answers. If not, nothing that the failed forward made is kept."""
        calls = [request.call for request in batch]
        try:
            self._flight.wait_for(request.inputs for request in batch)
            outputs = rows.split(self._forward(rows.merge(calls)), among=calls)
            departed = self._flight.depart(calls)
        except Exception as error:
            if len(batch) > 1:
                # As text, because a log record that is kept would keep what the failed forward made.
                logger.warning("A forward of %s calls failed; each is tried alone: %s", len(batch), str(error))
                return False
            batch[0].output.set_exception(error)
            return True
        finally:
            self._idle_since = time.monotonic()
        for request, output in zip(batch, outputs, strict=True):
            request.output.set_result((output, departed))
        return True
