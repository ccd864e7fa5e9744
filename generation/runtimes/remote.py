"""A runtime whose engine is in a model server; what is between them is a Link."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    LinkCost,
    ModelFacts,
    ModelSource,
    OnStep,
    PackedState,
    Progress,
)
from generation.runtimes import packing
from generation.runtimes.errors import BadMessage, ServerBusy
from generation.runtimes.frames import Frame, Kind
from generation.runtimes.link import Call, Link

if TYPE_CHECKING:
    import numpy as np

    from generation.engines.state import SavedState

LOOK_AGAIN_SECONDS = 0.1


class RemoteRuntime:
    """A Runtime without torch. What the server has is known from its latest answer: facts and loaded ask nobody.

    A generation that finds the server full waits until it is taken, and tells on_step meanwhile; with
    `waits_when_full` off ServerBusy is raised instead.
    """

    def __init__(self, link: Link, *, waits_when_full: bool = True) -> None:
        self._link = link
        self._waits_when_full = waits_when_full
        self._lock = threading.Lock()
        self._server: packing.ServerState | None = None
        self._sources: dict[str, ModelSource] = {}

    def describe(self) -> DeviceDescription:
        """What the device is, by asking. Raises ServerUnavailable."""
        return self._look(Kind.DESCRIBE).device

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models that the server had when it was asked last."""
        return tuple(facts.slug for facts in self.facts())

    def load(self, model: ModelSource) -> None:
        """Have the model in the server's memory; one that this runtime has loaded there is believed to be there."""
        if self._sources.get(model.slug) != model or model.slug not in self.loaded:
            self._look(Kind.LOAD, packing.pack_source(model))
            self._sources[model.slug] = model

    def unload(self, slug: str) -> None:
        """Forget a model, if it is there."""
        self._sources.pop(slug, None)
        self._look(Kind.UNLOAD, {"slug": slug})

    def facts(self) -> tuple[ModelFacts, ...]:
        """What the server knew of each model in its memory when it was asked last."""
        return self._server.models if self._server is not None else ()

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model."""
        return tuple(self._link.question(Kind.SCHEDULERS, {"slug": slug})["schedulers"])

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for, or the rest of it; what on_step raises ends it in the server and comes out unchanged.

        Raises EngineError: the engine's own, and those of `generation.runtimes.errors`.
        """
        started = time.perf_counter()
        frame = packing.pack_request(request, resume_from)
        packed = time.perf_counter()
        call = self._start(frame, on_step, resume_from or PackedState(0, request.num_inference_steps, b""))
        taken = time.perf_counter() - call.sent_seconds
        with call:
            last = Conversation(call, on_step).listen()
        arrived = time.perf_counter()
        made = packing.unpack_images(last)
        ended = time.perf_counter()
        times = packing.typed(
            last.header, {"server_seconds": float, "serialise_seconds": float, "pack_seconds": float}, of="a result"
        )
        in_server = times["server_seconds"]
        serialise = (packed - started) + (ended - arrived) + times["serialise_seconds"]
        waited = (taken - packed) + in_server - times["serialise_seconds"] - made.pipeline_seconds
        return replace(
            made,
            cost=LinkCost(
                serialise_ms=1000 * serialise,
                transfer_ms=1000 * max(0.0, arrived - taken - in_server),
                wait_ms=1000 * max(0.0, waited),
            ),
        )

    def close(self) -> None:
        """Let go of the server, which runs on."""
        self._link.close()
