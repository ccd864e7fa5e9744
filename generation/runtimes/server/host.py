"""The engine of a model server, and the generations that it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

from generation.engines.errors import DeviceLost
from generation.engines.types import GeneratedImages, ModelSource
from generation.runtimes.base import Runtime
from generation.runtimes.errors import ServerBusy
from generation.runtimes.frames import Frame
from generation.runtimes.packing import ServerState
from generation.runtimes.server.job import Job
from generation.runtimes.server.metrics import Metrics

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 0.5
THREADS_FOR_MODELS = 4

Answer = TypeVar("Answer")


class Host:
    """Everything here happens on the event loop, but for the work itself, which has threads.

    `engine` is an engine, which has all that a Runtime has.
    """

    def __init__(self, engine: Runtime, *, slots: int) -> None:
        self.engine = engine
        self.slots = slots
        self.instance = uuid4().hex
        self.metrics = Metrics(self)
        self.jobs: dict[str, Job] = {}
        self.is_stopping = False  # it takes nothing new
        self.is_stopped = False  # and nothing runs any more
        self._drawing = ThreadPoolExecutor(slots, thread_name_prefix="generation")
        self._managing = ThreadPoolExecutor(THREADS_FOR_MODELS, thread_name_prefix="models")

    def describe(self) -> ServerState:
        """What it is, has and does."""
        return ServerState(
            instance=self.instance,
            device=self.engine.describe(),
            models=self.engine.facts(),
            slots=self.slots,
            in_flight=len(self.jobs),
        )

    async def load(self, source: ModelSource) -> None:
        """Have a model in memory. Raises EngineError."""
        await self._manage(lambda: self.engine.load(source))

    async def unload(self, slug: str) -> None:
        """Forget a model, if it is there."""
        await self._manage(lambda: self.engine.unload(slug))

    async def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model. Raises EngineError."""
        return await self._manage(lambda: self.engine.schedulers(slug))

    def start(self, frame: Frame) -> Job:
        """Begin what a GENERATE asks for. Raises BadMessage, and ServerBusy if all slots are taken."""
        loop = asyncio.get_running_loop()
        job = Job(frame, loop=loop)
        if self.is_stopping or len(self.jobs) >= self.slots:
            self.metrics.refused.inc()
            why = "It is about to stop." if self.is_stopping else f"All {self.slots} slots are taken."
            raise ServerBusy(f"The model server takes nothing now. {why}", retry_after_seconds=RETRY_AFTER_SECONDS)
        self.jobs[job.id] = job
        self._drawing.submit(self._draw, job, loop)
        return job

    async def drain(self, *, within_seconds: float) -> None:
        """Take nothing new, and wait for what runs; what is not done in time is given up at its next step."""
        self.is_stopping = True
        deadline = time.monotonic() + within_seconds
        while self.jobs and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for job in self.jobs.values():
            job.give_up()
        self.is_stopped = True

    def close(self) -> None:
        """Wait for the threads, and forget all models."""
        self._drawing.shutdown()
        self._managing.shutdown()
        self.engine.close()

    async def look_for_hangs(self, limit_seconds: float) -> None:
        """End this process if a generation has made no step for too long: nothing else frees a device that hangs."""
        while True:
            await asyncio.sleep(min(1.0, limit_seconds / 4))
            for job in self.jobs.values():
                seconds = time.monotonic() - job.stepped_at
                if seconds > limit_seconds:
                    logger.critical("A generation made no step for %.0f s: the device hangs. Ending.", seconds)
                    os._exit(1)  # a thread that hangs in a driver keeps every politer exit waiting

    def _draw(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: run the pipeline. Nothing leaves but through the last frame."""
        outcome: GeneratedImages | BaseException
        try:
            outcome = self.engine.generate(job.request, on_step=job.on_step, resume_from=job.resume_from)
        except BaseException as error:
            outcome = error
        last = job.end(outcome)
        # First the slot is free, then the client knows: its next request must not find the server full.
        loop.call_soon_threadsafe(self._leave, job, outcome)
        job.tell(last)

    def _leave(self, job: Job, outcome: GeneratedImages | BaseException) -> None:
        del self.jobs[job.id]
        self.metrics.note(outcome)
        if isinstance(outcome, DeviceLost):
            self._end(outcome)

    async def _manage(self, work: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._managing, work)
        except DeviceLost as error:
            self._end(error)
            raise

    def _end(self, error: DeviceLost) -> None:
        """End this process politely: only a new one can use the device again."""
        logger.critical("The device has failed: %s Ending, to be started anew.", error)
        os.kill(os.getpid(), signal.SIGTERM)
