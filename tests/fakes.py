"""A runtime that draws grey squares at once and does as it is told: for tests of what happens around a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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


@dataclass(frozen=True)
class StateOffer:
    """What a step offers where its state can be saved."""

    step: int
    total: int
    latent: float = 0.5

    def copy_state(self) -> Callable[[], SavedState] | None:
        """A state of next to nothing; none after the last step."""
        import torch

        from generation.engines.state import SavedState

        if self.step >= self.total:
            return None
        latents = torch.full((1, 4, 2, 2), self.latent)
        state = SavedState(self.step, self.total, scheduler="Scripted", attributes={}, latents=latents, generators=())
        return lambda: state

    def start_preview(self) -> None:
        """There is none."""


class RedPreview:
    """What a step offers that has a red preview, and no state."""

    def copy_state(self) -> None:
        """There is none."""

    def start_preview(self) -> Callable[[], np.ndarray]:
        """32 red pixels square."""
        return lambda: np.full((32, 32, 3), (200, 0, 0), dtype=np.uint8)


class ScriptedRuntime:
    """Counts its steps like an engine; `at_step` is called at each and may raise or change the world."""

    def __init__(self) -> None:
        self.loaded: tuple[str, ...] = ()
        self.requests: list[ImageRequest] = []
        self.steps_done = 0
        self.at_once = 1
        self.usual_pixels = 0
        self.resumed_from: list[int] = []
        self.saves = False
        self.load_error: Exception | None = None
        self.at_step: Callable[[int], None] = lambda step: None
        self.after_last_step: Callable[[], None] = lambda: None

    def describe(self) -> DeviceDescription:
        """A device that exists nowhere."""
        return DeviceDescription(kind="cpu", name="a scripted device", memory_bytes=1024**3)

    def load(self, model: ModelSource) -> None:
        """Load at once, or fail as scripted."""
        if self.load_error is not None:
            raise self.load_error
        self.loaded = (*self.loaded, model.slug)

    def unload(self, slug: str) -> None:
        """Forget a model."""
        self.loaded = tuple(loaded for loaded in self.loaded if loaded != slug)

    def facts(self) -> tuple[ModelFacts, ...]:
        """So many at once of each."""
        return tuple(
            ModelFacts(
                slug,
                at_once=self.at_once,
                is_batched=False,
                is_reproducible=False,
                reason="Scripted.",
                rows={},
                pixels=self.usual_pixels,
            )
            for slug in self.loaded
        )

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """None in particular."""
        return ()

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | None = None
    ) -> GeneratedImages:
        """Take the steps, then return grey pixels."""
        self.requests.append(request)
        total, done = request.num_inference_steps, 0
        if resume_from is not None:
            done = resume_from.step
            self.resumed_from.append(done)
        for step in range(done + 1, total + 1):
            self.at_step(step)
            self.steps_done = step
            on_step(Progress(step=step, total=total, offers=StateOffer(step, total) if self.saves else None))
        self.after_last_step()
        pixels = np.full((request.num_images, request.height, request.width, 3), 128, dtype=np.uint8)
        return GeneratedImages(pixels=pixels, pipeline_seconds=0.5, peak_memory_bytes=None)

    def close(self) -> None:
        """Nothing to let go."""
