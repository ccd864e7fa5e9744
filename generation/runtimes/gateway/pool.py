"""The servers of a gateway: which of them are well, how much each has to do, and who gets the next generation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

from generation.engines.errors import EngineError
from generation.engines.types import ModelFacts, ModelSource
from generation.runtimes.base import Runtime
from generation.runtimes.gateway.errors import ServerUnavailable

logger = logging.getLogger(__name__)

AIR_SECONDS = 0.1
BUSY_SECONDS = 0.5  # for so long a server that has refused gets nothing new


@dataclass(eq=False)
class Member:
    """A server of the pool. `in_flight` generations of this process are with it now."""

    name: str
    runtime: Runtime
    is_well: bool = True
    in_flight: int = 0
    lent_at: float = 0.0
    busy_until: float = 0.0
    faults: dict[str, EngineError] = field(default_factory=dict)

    def facts_of(self, slug: str) -> ModelFacts | None:
        """What it tells of a model in its memory."""
        return next((facts for facts in self.runtime.facts() if facts.slug == slug), None)

    def load(self) -> float:
        """How much it has to do, as a share of what it takes; who was asked longest ago comes first among equals."""
        return self.in_flight / max(1, max((facts.at_once for facts in self.runtime.facts()), default=1))


class Pool:
    """Members by name. Any thread may call any method.

    Who fails is unwell from then on, and gets nothing, until a check finds it well again; `check_seconds` lie between
    two checks.
    """

    def __init__(self, members: Collection[Member], *, check_seconds: float) -> None:
        self.members = tuple(members)
        self._changed = Condition()
        self._is_closed = Event()
        self._checks = Thread(target=self._keep_checking, args=(check_seconds,), name="gateway checks", daemon=True)
        self._checks.start()

    def well(self) -> tuple[Member, ...]:
        """Those that get generations."""
        return tuple(member for member in self.members if member.is_well)

    @contextmanager
    def lend(
        self,
        model: ModelSource,
        *,
        besides: Collection[Member],
        patience_seconds: float,
        while_waiting: Callable[[], None],
    ) -> Iterator[Member]:
        """The member that has least to do of those that have the model, `besides` some; waits while all are busy.

        Raises the model's fault if no member has it, and ServerUnavailable if none has been well for
        `patience_seconds`. What `while_waiting`, called ten times a second, raises ends the wait.
        """
        member = self._wait_for(model, besides, patience_seconds, while_waiting)
        try:
            yield member
        finally:
            with self._changed:
                member.in_flight -= 1
                self._changed.notify_all()

    def note_failure(self, member: Member, error: EngineError) -> None:
        """It did not answer, or went away: it gets nothing until a check finds it well."""
        with self._changed:
            if member.is_well:
                logger.warning("%s gets nothing new until it is well again: %s", member.name, error)
            member.is_well = False

    def note_refusal(self, member: Member) -> None:
        """It has enough to do for now."""
        member.busy_until = time.monotonic() + BUSY_SECONDS

    def check(self) -> None:
        """Ask every member how it is."""
        for member in self.members:
            try:
                member.runtime.describe()
            except EngineError as error:
                self.note_failure(member, error)
            else:
                self._note_health(member)

    def close(self) -> None:
        """End the checks; the members are closed by who has made them."""
        self._is_closed.set()
        self._checks.join()

    def _wait_for(
        self,
        model: ModelSource,
        besides: Collection[Member],
        patience_seconds: float,
        while_waiting: Callable[[], None],
    ) -> Member:
        gives_up_at = time.monotonic() + patience_seconds
        while True:
            with self._changed:
                candidates = self._candidates(model, besides)
                if free := [member for member in candidates if member.busy_until <= time.monotonic()]:
                    member = min(free, key=lambda one: (one.load(), one.lent_at))
                    member.in_flight += 1
                    member.lent_at = time.monotonic()
                    return member
                if candidates:
                    gives_up_at = time.monotonic() + patience_seconds  # busy is well
                elif time.monotonic() >= gives_up_at:
                    raise ServerUnavailable("None of the servers answers. Look after them; it is tried again.")
                self._changed.wait(AIR_SECONDS)
            while_waiting()

    def _candidates(self, model: ModelSource, besides: Collection[Member]) -> list[Member]:
        """Who is well and can have the model; raises its fault where all who are well cannot."""
        well = [member for member in self.well() if member not in besides]
        able = [member for member in well if model.slug not in member.faults]
        if well and not able:
            raise well[0].faults[model.slug]
        return able

    def _note_health(self, member: Member) -> None:
        with self._changed:
            if not member.is_well:
                logger.info("%s is well again.", member.name)
                member.faults.clear()
            member.is_well = True
            self._changed.notify_all()

    def _keep_checking(self, seconds: float) -> None:
        while not self._is_closed.wait(seconds):
            try:
                self.check()
            except Exception:
                # Whatever it is, servers that come back are found by this thread only.
                logger.exception("A check of the pool failed.")
