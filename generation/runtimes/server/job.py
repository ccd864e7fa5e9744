"""One generation in a model server: the engine's thread tells it of each step, the event loop's clients are told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from generation.engines.errors import EngineError
from generation.engines.packed_state import PackedState
from generation.engines.types import GeneratedImages, ImageRequest, Progress
from generation.runtimes import packing
from generation.runtimes.errors import ServerUnavailable
from generation.runtimes.frames import Frame, Kind

if TYPE_CHECKING:
    from generation.engines.state import SavedState

logger = logging.getLogger(__name__)

ALIVE_SECONDS = 5.0


class Cancelled(Exception):
    """Raised between two denoise steps; it leaves the pipeline through its own callback."""


class Job:
    """Made and read on the event loop; `draw` and `on_step` belong to a thread of the engine's."""

    def __init__(self, frame: Frame, *, loop: asyncio.AbstractEventLoop) -> None:
        """Raises BadMessage."""
        self.id = uuid4().hex
        self.arrived_at = self.stepped_at = time.monotonic()
        self.request: ImageRequest
        self.resume_from: PackedState | None
        self.request, self.resume_from = packing.unpack_request(frame)
        self.unpack_seconds = time.monotonic() - self.arrived_at
        self.is_cancelled = False
        self.is_given_up = False
        self.wants: set[Kind] = set()
        self._loop = loop
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()

    def ask(self, kind: Kind) -> None:
        """CANCEL, PREVIEW or SAVE: answered at the next step."""
        if kind == Kind.CANCEL:
            self.is_cancelled = True
        else:
            self.wants.add(kind)

    def give_up(self) -> None:
        """End it at the next step, since the server stops: nobody has cancelled it, and another one may draw it."""
        self.is_given_up = True

    def on_step(self, progress: Progress) -> None:
        """Tell of a step, and give what was asked for meanwhile."""
        self.stepped_at = time.monotonic()
        if self.is_given_up:
            raise ServerUnavailable("The model server stops, and could not wait for the end of this generation.")
        if self.is_cancelled:
            raise Cancelled
        # A step before the first one has nothing to give; what was asked for waits for one that has.
        if Kind.PREVIEW in self.wants and progress.offers is not None:
            self.wants.discard(Kind.PREVIEW)
            self._give(progress.start_preview, _pack_preview)
        if Kind.SAVE in self.wants and progress.offers is not None:
            self.wants.discard(Kind.SAVE)
            self._give(progress.copy_state, _pack_finite)
        place = {"step": progress.step, "total": progress.total, "has_offers": progress.offers is not None}
        self.tell(Frame(Kind.PROGRESS, place))

    def end(self, outcome: GeneratedImages | BaseException) -> Frame:
        """The last frame about it."""
        match outcome:
            case GeneratedImages():
                return self._result(outcome)
            case Cancelled():
                return Frame(Kind.CANCELLED)
            case EngineError():
                return Frame(Kind.ERROR, packing.pack_error(outcome))
            case _:
                logger.error("A generation failed unexpectedly.", exc_info=outcome)
                return Frame(Kind.ERROR, packing.pack_error(outcome))

    def tell(self, frame: Frame) -> None:
        """Put a frame before whoever reads them; from any thread."""
        self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)

    async def frames(self) -> AsyncIterator[Frame]:
        """All frames up to the last one; a sign of life whenever there was none for a while.

        To leave before the end, as a client does that vanishes, is to cancel.
        """
        try:
            while True:
                try:
                    async with asyncio.timeout(ALIVE_SECONDS):
                        frame = await self._frames.get()
                except TimeoutError:
                    frame = Frame(Kind.ALIVE)
                yield frame
                if frame.kind.is_last:
                    return
        finally:
            self.is_cancelled = True

    async def last_frame(self) -> Frame:
        """The last frame, for who does not ask for more."""
        async for frame in self.frames():
            last = frame
        return last

    def _result(self, made: GeneratedImages) -> Frame:
        drawn_at = time.monotonic()
        whole = replace(made, pixels=np.ascontiguousarray(made.pixels))
        now = time.monotonic()
        times = packing.ServerTimes(
            total_seconds=now - self.arrived_at, serialise_seconds=self.unpack_seconds + now - drawn_at
        )
        return packing.pack_images(whole, times)

    def _give(self, start: Callable[[], Callable[[], Any] | None], pack: Callable[[Any], Frame]) -> None:
        """Begin to make what was asked for; a thread of its own waits for the device, and packs it.

        Nothing that goes wrong here may end the generation: then there is none.
        """
        try:
            finish = start()
        except Exception:
            logger.exception("What a client has asked for could not be begun.")
            finish = None
        if finish is None:
            self.tell(pack(None))
            return

        def give(finish: Callable[[], Any]) -> None:
            try:
                self.tell(pack(finish()))
            except Exception:
                logger.exception("What a client has asked for could not be made.")
                self.tell(pack(None))

        self._loop.call_soon_threadsafe(self._loop.run_in_executor, None, give, finish)


def _pack_preview(pixels: np.ndarray | None) -> Frame:
    return packing.pack_picture(Kind.PREVIEWED, pixels)


def _pack_finite(state: SavedState | PackedState | None) -> Frame:
    """One with NaN in it would make a black picture of the rest: it is as good as none."""
    return packing.pack_state(state if state is not None and state.is_finite else None)
