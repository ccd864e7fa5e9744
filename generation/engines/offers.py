"""What on_step may ask of a denoise step while it looks at it: the state, and a preview."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from generation.engines.denoise_loop import DenoiseLoop
from generation.engines.denoised import LastStep
from generation.engines.previews import Previewer
from generation.engines.state import SavedState
from generation.engines.types import ImageRequest, Pipeline


@dataclass(slots=True)
class StepOffers:
    """Of one step; it offers nothing any more once the pipeline goes on."""

    call: CallOffers
    step: int
    total: int
    latents: torch.Tensor | None
    is_over: bool = False

    def copy_state(self) -> Callable[[], SavedState] | None:
        """What to go on from after this step, or None."""
        # After the last step there is nothing to go on with; some pipelines decode more than its latents.
        if self.is_over or self.latents is None or self.step >= self.total:
            return None
        return self.call.loop.copy(step=self.step, total=self.total, latents=self.latents)

    def start_preview(self) -> Callable[[], np.ndarray | None] | None:
        """A small picture on its way, or None."""
        return None if self.is_over else self.call.start_preview()


@dataclass(frozen=True, slots=True)
class CallOffers:
    """Of all steps of one pipeline call."""

    pipe: Pipeline
    request: ImageRequest
    loop: DenoiseLoop
    last_step: LastStep
    previewer: Previewer
    device: torch.device

    def at(self, *, step: int, total: int, latents: object) -> StepOffers:
        """At the end of a step; without latents in a tensor there is no state."""
        return StepOffers(self, step, total, latents if isinstance(latents, torch.Tensor) else None)

    def start_preview(self) -> Callable[[], np.ndarray | None] | None:
        """A picture of what the last step that was taken makes of the latents."""
        width, height = self.request.width, self.request.height
        return self.previewer.start(self.last_step, pipe=self.pipe, width=width, height=height, device=self.device)
