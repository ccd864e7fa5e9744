"""The servers of a gateway: which of them are well, how much each has to do, and who gets the next generation."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

from generation.engines.errors import EngineError, ModelUnavailable
from generation.engines.types import ImageRequest, ModelSource
from generation.runtimes.base import Runtime, facts_of
from generation.runtimes.errors import ServerUnavailable

logger = logging.getLogger(__name__)

AIR_SECONDS = 0.1
BUSY_SECONDS = 0.5  # for so long a server that has refused gets nothing new
FAULT_SECONDS = 5.0  # after so long a server that could not load a model is asked for it again


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a server does not have a model, and when it said so, on `time.monotonic`'s clock."""

    error: EngineError
    at: float


@dataclass(eq=False)
class Member:
    """A server of the pool. `in_flight` tells of each model how many places generations of this process take there."""

    name: str
    runtime: Runtime
    is_well: bool = True
    in_flight: Counter[str] = field(default_factory=Counter)
    lent_at: float = 0.0
    busy_until: float = 0.0
    models: dict[str, ModelSource] = field(default_factory=dict)
    loading: dict[ModelSource, Future[None]] = field(default_factory=dict)
    faults: dict[ModelSource, Fault] = field(default_factory=dict)

    def has(self, model: ModelSource) -> bool:
        """Whether the model was loaded, and nothing else under its name since."""
        return self.models.get(model.slug) == model

    def at_once(self, model: ModelSource) -> int:
        """How many generations of the model it works on at a time."""
        return facts_of(self.runtime, model.slug).at_once

    def places_of(self, request: ImageRequest) -> int:
        """How many of these one counts for."""
        return facts_of(self.runtime, request.model.slug).places_of(request)


class Pool:
    """Members by name. Any thread may call any method.

    Who fails is unwell from then on, and gets nothing, until a check finds it well again; `check_seconds` lie between
    two checks. A member gets generations of a model once it is in its memory: loading keeps nobody waiting who could
    be served elsewhere.
    """

    def __init__(self, members: Collection[Member], *, check_seconds: float) -> None:
        self.members = tuple(members)
        self._changed = Condition()
        self._is_closed = Event()
        self._threads = ThreadPoolExecutor(4 * len(self.members), thread_name_prefix="gateway")
        self._checks = Thread(target=self._keep_checking, args=(check_seconds,), name="gateway checks", daemon=True)
        self._checks.start()

    def well(self) -> tuple[Member, ...]:
        """Those that get generations."""
        return tuple(member for member in self.members if member.is_well)

    def load(self, model: ModelSource) -> None:
        """Have the model come to each member that is well; returns when one has it, or when all have failed."""
        with self._changed:
            while self._bring(model) and not any(member.has(model) for member in self.well()):
                self._changed.wait()

    def fault_of(self, model: ModelSource) -> EngineError | None:
        """Why no member that is well has the model; None if one has, or may have it soon."""
        well = self.well()
        faults = [member.faults[model].error for member in well if model in member.faults and not member.has(model)]
        return faults[0] if faults and len(faults) == len(well) else None

    @contextmanager
    def lend(
        self,
        request: ImageRequest,
        *,
        besides: Collection[Member],
        patience_seconds: float,
        while_waiting: Callable[[], None],
        cause: ServerUnavailable | None = None,
    ) -> Iterator[tuple[Member, Callable[[], None]]]:
        """The member that has least to do of those that have its model, `besides` some; waits while all are busy.

        Raises the model's fault if no member can have it, and ServerUnavailable, which is `cause` if there is one, if
        none has been well for `patience_seconds`, or none is left. What `while_waiting`, called all the while, raises
        ends the wait. The member is lent for the block, or until what comes with it is called.
        """
        nobody = cause or ServerUnavailable("None of the servers answers. Look after them; it is tried again.")
        member, takes = self._wait_for(request, besides, patience_seconds, while_waiting, nobody)
        with ExitStack() as held:
            held.callback(self._give_back, member, request.model, takes)
            yield member, held.close

    def note_failure(self, member: Member, error: EngineError) -> None:
        """It did not answer, or went away: it gets nothing until a check finds it well."""
        with self._changed:
            if member.is_well:
                logger.warning("%s gets nothing new until it is well again: %s", member.name, error)
            member.is_well = False
            member.models.clear()  # what comes back may be another process
            self._changed.notify_all()

    def note_refusal(self, member: Member) -> None:
        """It has enough to do for now."""
        member.busy_until = time.monotonic() + BUSY_SECONDS

    def check(self) -> None:
        """Ask every member how it is, all at the same time."""
        list(self._threads.map(self._check, self.members))

    def close(self) -> None:
        """End the checks; the members are closed by who has made them."""
        self._is_closed.set()
        self._checks.join()
        self._threads.shutdown()

    def _wait_for(
        self,
        request: ImageRequest,
        besides: Collection[Member],
        patience_seconds: float,
        while_waiting: Callable[[], None],
        nobody: ServerUnavailable,
    ) -> tuple[Member, int]:
        model = request.model
        gives_up_at = time.monotonic() + patience_seconds
        if all(member in besides for member in self.members):
            raise nobody
        while True:
            with self._changed:
                is_coming = self._bring(model)
                able = [member for member in self.well() if member.has(model) and member not in besides]
                if free := [member for member in able if self._has_room(member, model)]:
                    return self._take(free, request)
                if error := self.fault_of(model):
                    raise error
                if able or is_coming:
                    gives_up_at = time.monotonic() + patience_seconds  # who is busy, or loads, is well
                elif time.monotonic() >= gives_up_at:
                    raise nobody
                self._changed.wait(AIR_SECONDS)
            while_waiting()

    def _give_back(self, member: Member, model: ModelSource, takes: int) -> None:
        with self._changed:
            member.in_flight[model.slug] -= takes
            self._changed.notify_all()

    def _has_room(self, member: Member, model: ModelSource) -> bool:
        return member.busy_until <= time.monotonic() and member.in_flight[model.slug] < member.at_once(model)

    def _take(self, free: list[Member], request: ImageRequest) -> tuple[Member, int]:
        """Who has least to do for what it can; among equals, who was asked longest ago. And what it took there."""
        member = min(free, key=lambda one: (one.in_flight.total() / one.at_once(request.model), one.lent_at))
        takes = member.places_of(request)
        member.in_flight[request.model.slug] += takes
        member.lent_at = time.monotonic()
        return member, takes

    def _bring(self, model: ModelSource) -> bool:
        """Begin to load the model where it is not; whether it is on its way to somebody. Holds the condition."""
        for member in self.well():
            fault = member.faults.get(model)
            is_due = fault is None or time.monotonic() - fault.at > FAULT_SECONDS
            if not member.has(model) and model not in member.loading and is_due:
                member.loading[model] = self._threads.submit(self._load, member, model)
        return any(model in member.loading for member in self.well())

    def _load(self, member: Member, model: ModelSource) -> None:
        """In a thread: have a member load a model, and note what comes of it."""
        try:
            member.runtime.load(model)
        except ServerUnavailable as error:
            self.note_failure(member, error)
        except EngineError as error:
            member.faults[model] = Fault(error, at=time.monotonic())
        except Exception as error:
            logger.exception("%s failed unexpectedly to load %s.", member.name, model.slug)
            unforeseen = ModelUnavailable(f"{member.name} failed to load {model.slug}: {error}")
            member.faults[model] = Fault(unforeseen, at=time.monotonic())
        else:
            member.faults.pop(model, None)
            member.models[model.slug] = model
        finally:
            with self._changed:
                del member.loading[model]
                self._changed.notify_all()

    def _check(self, member: Member) -> None:
        try:
            member.runtime.describe()
        except EngineError as error:
            self.note_failure(member, error)
            return
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
