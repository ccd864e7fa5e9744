"""An engine that fails as SICKNESS in its environment says: at the second step, or while it loads a model."""

import os
import threading

from benchmarks.timed_engine import TimedEngine
from generation.engines.errors import DeviceLost, OutOfMemory
from generation.engines.types import GeneratedImages, ImageRequest, ModelSource, OnStep, Progress

PEAK = 5 * 1024**3


class SickEngine(TimedEngine):
    """A timed engine with one fault."""

    def load(self, model: ModelSource) -> None:
        """Load, or lose the device over it."""
        if os.environ["SICKNESS"] == "device lost while loading":
            raise DeviceLost("CUDA error: an illegal memory access was encountered")
        super().load(model)

    def generate(self, request: ImageRequest, *, on_step: OnStep, resume_from=None) -> GeneratedImages:
        """Draw up to the second step."""

        def fail_at_second(progress: Progress) -> None:
            on_step(progress)
            if progress.step == 2:
                fail(os.environ["SICKNESS"])

        return super().generate(request, on_step=fail_at_second, resume_from=resume_from)


def fail(sickness: str) -> None:
    """As the sickness has it."""
    match sickness:
        case "hang":
            threading.Event().wait()
        case "device lost":
            raise DeviceLost("CUDA error: an illegal memory access was encountered")
        case "out of memory":
            raise OutOfMemory("It does not fit.", peak_memory_bytes=PEAK)
        case "bug":
            raise ZeroDivisionError
