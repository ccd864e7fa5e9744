"""An engine that takes a given time per step, so that what lies around it stands out; it needs no torch.

It takes its figures from the environment, since whoever measures starts it behind many doors:

    TIMED_STEP_SECONDS   how long a step takes, for all generations that share it (0.02)
    TIMED_ENCODE_SECONDS before the first step (0)
    TIMED_DECODE_SECONDS after the last step (0)
    TIMED_AT_ONCE        generations that share a step; more wait for a place (8)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from generation.engines.errors import ModelUnavailable
from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelFacts,
    ModelSource,
    OnStep,
    Progress,
)

if TYPE_CHECKING:
    from generation.engines.state import SavedState

LOOK_AGAIN_SECONDS = 0.25


class TimedEngine:
    """Has the interface of `generation.engines.engine.Engine`; models are names, and pixels follow from the seed."""

    def __init__(self, device: str, *, folder: Path | None = None, compiles: bool = False) -> None:
        self.step_seconds = float(os.environ.get("TIMED_STEP_SECONDS", "0.02"))
        self.encode_seconds = float(os.environ.get("TIMED_ENCODE_SECONDS", "0"))
        self.decode_seconds = float(os.environ.get("TIMED_DECODE_SECONDS", "0"))
        self.at_once = int(os.environ.get("TIMED_AT_ONCE", "8"))
        self._models: dict[str, ModelSource] = {}
        self._places = threading.BoundedSemaphore(self.at_once)

    def describe(self) -> DeviceDescription:
        """A device that exists nowhere."""
        return DeviceDescription(kind="cpu", name=f"{1000 * self.step_seconds:g} ms per step", memory_bytes=1024**3)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models that were asked for."""
        return tuple(self._models)

    def load(self, model: ModelSource) -> None:
        """Remember its name."""
        self._models[model.slug] = model

    def unload(self, slug: str) -> None:
        """Forget its name."""
        self._models.pop(slug, None)

    def facts(self) -> tuple[ModelFacts, ...]:
        """So many at once as the environment says."""
        return tuple(
            ModelFacts(slug, at_once=self.at_once, is_batched=True, is_reproducible=True, reason="", rows={})
            for slug in tuple(self._models)
        )

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """None: nothing is denoised."""
        if slug not in self._models:
            raise ModelUnavailable(f"{slug} is not loaded. Load it before asking for its schedulers.")
        return ()

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Wait as long as the steps take; pixels uint8 (n, height, width, 3)."""
        self.load(request.model)
        total, first = request.num_inference_steps, resume_from.step if resume_from is not None else 0
        while not self._places.acquire(timeout=LOOK_AGAIN_SECONDS):
            on_step(Progress(step=first, total=total))
        try:
            started = time.perf_counter()
            time.sleep(self.encode_seconds)
            for step in range(first + 1, total + 1):
                time.sleep(self.step_seconds)
                on_step(Progress(step=step, total=total, offers=TimedOffers(step, total)))
            time.sleep(self.decode_seconds)
            pixels = draw(request)
            seconds = time.perf_counter() - started
        finally:
            self._places.release()
        return GeneratedImages(pixels=pixels, pipeline_seconds=seconds, peak_memory_bytes=None)

    def close(self) -> None:
        """Forget all models."""
        self._models.clear()


class TimedOffers:
    """Of one step."""

    def __init__(self, step: int, total: int) -> None:
        self._step = step
        self._total = total

    def copy_state(self) -> Callable[[], PackedState] | None:
        """A state of the size of SD1.5's latents at 512x512, but for the last step."""
        if self._step >= self._total:
            return None
        return lambda: PackedState(self._step, self._total, bytes(32 * 1024))

    def start_preview(self) -> Callable[[], np.ndarray]:
        """A grey square."""
        return lambda: np.full((64, 64, 3), 128, np.uint8)


def draw(request: ImageRequest) -> np.ndarray:
    """Noise that costs next to nothing: a random line, repeated."""
    images = np.empty((request.num_images, request.height, request.width, 3), np.uint8)
    for index in range(request.num_images):
        line = np.random.default_rng(request.seed + index).integers(0, 256, (request.width, 3), np.uint8)
        images[index] = line
    return images
