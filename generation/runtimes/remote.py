"""A runtime whose engine is in a model server; what is between them is a Link."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from generation.engines.errors import DeviceLost, EngineError, UnusableState
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
from generation.runtimes import packing
from generation.runtimes.errors import ServerBusy, ServerFailed, ServerUnavailable
from generation.runtimes.frames import Frame, Kind
from generation.runtimes.link import Call, Link

if TYPE_CHECKING:
    import numpy as np

    from generation.engines.state import SavedState

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 0.1


class RemoteRuntime:
    """A Runtime without torch. What the server has is known from its latest answer: facts and loaded ask nobody.

    A generation that finds the server full waits until it is taken, and tells on_step meanwhile; with
    `waits_when_full` off ServerBusy is raised instead.
    """

    def __init__(self, link: Link, *, waits_when_full: bool = True) -> None:
        self._link = link
        self._waits_when_full = waits_when_full
        self._server: packing.ServerState | None = None
        self._sources: dict[str, ModelSource] = {}

    def describe(self) -> DeviceDescription:
        """What the device is, by asking. Raises ServerUnavailable."""
        return self._look(Kind.DESCRIBE).device

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models that were loaded through here, and that the server had when it was asked last.

        Others may have loaded more there; to forget that is not for us.
        """
        return tuple(facts.slug for facts in self.facts() if facts.slug in self._sources)

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
        server = self._server  # another thread may note its loss meanwhile
        return server.models if server is not None else ()

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
        first = resume_from.step if resume_from is not None else 0
        with self._noting_loss():
            call = self._start(frame, on_step, Progress(step=first, total=request.num_inference_steps))
            with call:
                last = Listener(call, on_step).listen()
        arrived = time.perf_counter()
        made, server = packing.unpack_images(last), packing.unpack_times(last)
        serialise = packed - started + time.perf_counter() - arrived + server.serialise_seconds
        on_the_way = arrived - call.sent_at - server.total_seconds
        before_the_door = call.sent_at - packed
        inside = server.total_seconds - server.serialise_seconds - made.pipeline_seconds
        cost = LinkCost(
            serialise_ms=1000 * serialise,
            transfer_ms=1000 * max(0.0, on_the_way),
            wait_ms=1000 * max(0.0, before_the_door + inside),
        )
        return replace(made, cost=cost)

    def close(self) -> None:
        """Let go of the server, which runs on."""
        self._link.close()

    def _look(self, kind: Kind, header: dict[str, Any] | None = None) -> packing.ServerState:
        """Ask something that the server answers with its state."""
        with self._noting_loss():
            server = packing.unpack_server(self._link.question(kind, header or {}))
        if self._server is None or self._server.instance != server.instance:
            self._sources.clear()  # another process answers: what the last one had loaded went with it
        self._server = server
        return server

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        """After a loss whoever answers next has nothing in memory. A server without its device is as good as lost."""
        try:
            yield
        except ServerBusy:
            raise
        except ServerUnavailable:
            self._server = None
            raise
        except DeviceLost as error:
            self._server = None
            raise ServerUnavailable(f"The model server at {self._link.address} ends: {error}") from error

    def _start(self, frame: Frame, on_step: OnStep, waiting: Progress) -> Call:
        while True:
            try:
                return self._link.start(frame)
            except ServerBusy as busy:
                if not self._waits_when_full:
                    raise
                time.sleep(min(busy.retry_after_seconds, LOOK_AGAIN_SECONDS))
            on_step(waiting)


class Listener:
    """Hears what a server tells of one generation, in the thread that has asked for it."""

    def __init__(self, call: Call, on_step: OnStep) -> None:
        self._call = call
        self._on_step = on_step
        self._thread = threading.get_ident()
        self._kept: deque[Frame] = deque()
        self._last: Frame | None = None
        self._previews: deque[Future[Frame]] = deque()
        self._states: deque[Future[Frame]] = deque()

    def listen(self) -> Frame:
        """Tell on_step of each step until the RESULT. What it raises leaves once the server has let go of its rows."""
        try:
            while True:
                while self._kept:
                    self._tell(packing.unpack_progress(self._kept.popleft(), partial(Offers, self)))
                if self._last is not None:
                    return self._result(self._last)
                self._read()
        finally:
            for wish in (*self._previews, *self._states):
                wish.cancel()

    def wish(self, kind: Kind) -> Future[Frame]:
        """Ask for a PREVIEW or SAVE; answered at the server's next step, and cancelled if there is none."""
        answer: Future[Frame] = Future()
        if self._last is not None:
            answer.cancel()
            return answer
        (self._previews if kind == Kind.PREVIEW else self._states).append(answer)
        self._call.ask(kind)
        return answer

    def wait_for(self, answer: Future[Frame]) -> Frame | None:
        """The answer to a wish, None if there is none. The thread that listens reads on; any other one waits for it."""
        if threading.get_ident() == self._thread:
            while not answer.done() and self._last is None:
                self._read()
            if not answer.done():
                answer.cancel()
        try:
            return answer.result()
        except CancelledError:
            return None

    def _read(self) -> None:
        """Take the next frame: a step is told when its turn comes, an answer goes to who waits for it."""
        frame = self._call.next()
        match frame.kind:
            case Kind.PROGRESS:
                self._kept.append(frame)
            case Kind.PREVIEWED:
                self._answer(self._previews, frame)
            case Kind.SAVED:
                self._answer(self._states, frame)
            case kind if kind.is_last:
                self._last = frame

    @staticmethod
    def _answer(wishes: deque[Future[Frame]], frame: Frame) -> None:
        """All wishes of a kind at once: those that reach the server before the same step have one answer there."""
        while wishes:
            wishes.popleft().set_result(frame)

    def _result(self, last: Frame) -> Frame:
        match last.kind:
            case Kind.RESULT:
                return last
            case Kind.ERROR:
                raise packing.unpack_error(last.header)
            case _:
                raise ServerFailed("The server ended it without a result.")

    def _tell(self, progress: Progress) -> None:
        try:
            self._on_step(progress)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        """Cancel, and wait until the server has let go; one that cannot be reached has."""
        try:
            if self._last is None:
                self._call.ask(Kind.CANCEL)
            while self._last is None:
                self._read()
        except EngineError:
            logger.warning("The server was lost while a generation was cancelled.", exc_info=True)


@dataclass(frozen=True, slots=True)
class Offers:
    """Of a step that a server has told of. What it gives is of the step that it takes next: it waits for nobody."""

    listener: Listener
    step: int
    total: int

    def copy_state(self) -> Callable[[], PackedState] | None:
        """Ask for the state; None at the last step, after which there is nothing to go on with."""
        if self.step >= self.total:
            return None
        answer = self.listener.wish(Kind.SAVE)

        def finish() -> PackedState:
            frame = self.listener.wait_for(answer)
            state = packing.unpack_state(frame) if frame is not None else None
            if state is None:
                raise UnusableState("The server has no state of this generation.")
            return state

        return finish

    def start_preview(self) -> Callable[[], np.ndarray | None]:
        """Ask for the picture; it is None if there is no way to draw one, or the server has taken its last step."""
        answer = self.listener.wish(Kind.PREVIEW)

        def finish() -> np.ndarray | None:
            frame = self.listener.wait_for(answer)
            return packing.unpack_picture(frame) if frame is not None else None

        return finish
