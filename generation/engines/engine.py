"""An engine: the models on one device, and generation with them."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass

from generation.engines import device as devices
from generation.engines import schedulers
from generation.engines.errors import ModelUnavailable
from generation.engines.loading import load_pipeline
from generation.engines.pipeline_call import call
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelSource,
    OnStep,
    Pipeline,
)


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    source: ModelSource
    pipe: Pipeline


class Engine:
    """Runs unmodified diffusers pipelines on one device. Any thread may call any method at any time.

    Loading and generating take turns, by one lock: the device runs one generation at a time, and loading
    changes torch's default dtype for the whole process. Nothing else waits for that lock.
    """

    def __init__(self, device: str) -> None:
        self._device = devices.open_device(device)
        self._models: dict[str, _LoadedModel] = {}
        self._turn = threading.RLock()

    def describe(self) -> DeviceDescription:
        """What the device is."""
        return devices.describe(self._device)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models in memory."""
        return tuple(self._models)

    def load(self, model: ModelSource) -> None:
        """Have the model in memory; another one under the same slug makes way first. Raises EngineError."""
        self._pipe_of(model)

    def unload(self, slug: str) -> None:
        """Forget a model, if it is there; a generation that runs with it keeps its memory until the end."""
        if self._models.pop(slug, None) is not None:
            devices.free_memory(self._device)

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model."""
        model = self._models.get(slug)
        if model is None:
            raise ModelUnavailable(f"{slug} is not loaded. Load it before asking for its schedulers.")
        return schedulers.compatible(model.pipe)

    def generate(self, request: ImageRequest, *, on_step: OnStep) -> GeneratedImages:
        """Draw what is asked for, loading the model if need be, and tell on_step of each denoising step.

        Image i has the seed `request.seed + i`. What on_step raises comes out unchanged, and nothing is
        decoded then. Raises EngineError.
        """
        with self._turn:
            pipe = copy.copy(self._pipe_of(request.model))
            pipe.scheduler = schedulers.build(request.scheduler, pipe=pipe)
            devices.start_measuring_memory(self._device)
            started = time.perf_counter()
            pixels = call(pipe, request, on_step=on_step, device=self._device)
            return GeneratedImages(
                pixels=pixels,
                pipeline_seconds=time.perf_counter() - started,
                peak_memory_bytes=devices.peak_memory_bytes(self._device),
            )

    def close(self) -> None:
        """Forget all models."""
        for slug in self.loaded:
            self.unload(slug)

    def _pipe_of(self, model: ModelSource) -> Pipeline:
        """The model's pipeline, loaded now if it is not in memory; calls must not change it but copy it."""
        if (pipe := self._find(model)) is not None:
            return pipe
        with self._turn:
            if (pipe := self._find(model)) is not None:
                return pipe
            self.unload(model.slug)
            pipe = load_pipeline(model, device=str(self._device))
            self._models[model.slug] = _LoadedModel(model, pipe)
            return pipe

    def _find(self, model: ModelSource) -> Pipeline | None:
        loaded = self._models.get(model.slug)
        return loaded.pipe if loaded is not None and loaded.source == model else None
