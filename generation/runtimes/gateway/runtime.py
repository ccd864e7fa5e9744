"""A pool of servers as one runtime, for workers without a device of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from generation.engines.errors import ModelUnavailable
from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    LinkCost,
    ModelFacts,
    ModelSource,
    OnStep,
    Progress,
)
from generation.runtimes.base import Runtime
from generation.runtimes.errors import ServerBusy, ServerUnavailable
from generation.runtimes.gateway.pool import Member, Pool

if TYPE_CHECKING:
    from generation.engines.state import SavedState

logger = logging.getLogger(__name__)

TRIES = 2  # servers that one call may lose: a request that kills its server must not take the whole pool along


class GatewayRuntime:
    """A Runtime over others: each generation goes to the server that has least to do, and on to another if that dies.

    `servers` are named, for the logs. A generation waits for `patience_seconds` while no server is well, and longer
    while all are busy; then it fails with ServerUnavailable, which says nothing against the generation.
    """

    def __init__(
        self, servers: Mapping[str, Runtime], *, check_seconds: float = 1.0, patience_seconds: float = 10.0
    ) -> None:
        self._patience_seconds = patience_seconds
        self._pool = Pool([Member(name, runtime) for name, runtime in servers.items()], check_seconds=check_seconds)

    def describe(self) -> DeviceDescription:
        """The pool. Raises ServerUnavailable if none of its servers answers."""
        if not self._pool.well():
            self._pool.check()
        if not self._pool.well():
            raise ServerUnavailable("None of the servers answers. Look after them; it is tried again.")
        return DeviceDescription(kind="cpu", name=f"pool of {len(self._pool.members)} servers", memory_bytes=0)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models that a server has in memory."""
        return tuple(dict.fromkeys(slug for member in self._pool.well() for slug in member.runtime.loaded))

    def load(self, model: ModelSource) -> None:
        """Have the model in the memory of a server, and on its way to the others. Raises EngineError if none can."""
        self._pool.load(model)
        if error := self._pool.fault_of(model):
            raise error

    def unload(self, slug: str) -> None:
        """Forget a model wherever it is."""
        for member in self._pool.well():
            member.models.pop(slug, None)
            try:
                member.runtime.unload(slug)
            except ServerUnavailable as error:
                self._pool.note_failure(member, error)

    def facts(self) -> tuple[ModelFacts, ...]:
        """What all servers together do at once; the rest as the first of them tells it.

        No size is told: how many places one takes is each server's affair, and the pool counts them there.
        """
        together: dict[str, ModelFacts] = {}
        for facts in (facts for member in self._pool.well() for facts in member.runtime.facts()):
            known = together.get(facts.slug)
            at_once = facts.at_once + (known.at_once if known else 0)
            together[facts.slug] = replace(known or facts, at_once=at_once, pixels=0)
        return tuple(together.values())

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Those that a server with the model has."""
        for member in self._pool.well():
            if slug in member.runtime.loaded:
                return member.runtime.schedulers(slug)
        raise ModelUnavailable(f"{slug} is not loaded. Load it before asking for its schedulers.")

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for on one server, or on the next if that goes away; what on_step raises comes out.

        Raises EngineError; ServerUnavailable when servers were lost, or there was none.
        """
        asked_at = time.perf_counter()
        step = Steps(on_step, total=request.num_inference_steps)
        lost: list[Member] = []
        cause: ServerUnavailable | None = None
        while True:
            with self._pool.lend(
                request,
                besides=lost,
                patience_seconds=self._patience_seconds,
                while_waiting=step.wait,
                cause=cause,
            ) as (member, step.on_drawn):
                waited = time.perf_counter() - asked_at
                try:
                    return with_wait(member.runtime.generate(request, on_step=step, resume_from=resume_from), waited)
                except ServerBusy:
                    self._pool.note_refusal(member)
                except ServerUnavailable as error:
                    self._pool.note_failure(member, error)
                    lost.append(member)
                    cause = error
                    if len(lost) >= TRIES:
                        raise
                    logger.warning("What %s was drawing goes to another server.", member.name)

    def close(self) -> None:
        """Close the connections to all servers; they run on."""
        self._pool.close()
        for member in self._pool.members:
            member.runtime.close()


def with_wait(made: GeneratedImages, seconds: float) -> GeneratedImages:
    """With the time that went by before the last server was asked; where that tells no more, only this is known."""
    cost = made.cost or LinkCost(serialise_ms=None, transfer_ms=None, wait_ms=0.0)
    return replace(made, cost=replace(cost, wait_ms=cost.wait_ms + 1000 * seconds))


class Steps:
    """Tells on_step of each step; one that a second server takes anew is no step back for who looks on.

    After a server's last one it has room for the next generation, while it decodes; `on_drawn` is called then.
    """

    def __init__(self, on_step: OnStep, *, total: int) -> None:
        self.on_drawn: Callable[[], None] = lambda: None
        self._on_step = on_step
        self._furthest = Progress(step=0, total=total)

    def __call__(self, progress: Progress) -> None:
        """A step of a server."""
        if progress.step >= progress.total:
            self.on_drawn()
        if progress.step >= self._furthest.step:
            self._furthest = progress
            self._on_step(progress)
        else:
            self.wait()

    def wait(self) -> None:
        """Nothing new, but a chance to stop."""
        self._on_step(Progress(step=self._furthest.step, total=self._furthest.total))
