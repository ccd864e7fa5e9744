"""The values that travel to and from an engine; importing them needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's weights are: a local folder in diffusers format, or a Hugging Face Hub id."""

    slug: str
    source: str
    revision: str | None = None
    dtype: str = "auto"


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What to draw; `width` and `height` are in pixels, and scheduler "" is the model's own."""

    model: ModelSource
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    scheduler: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Denoising steps done, of all there are: some schedulers take more than num_inference_steps."""

    step: int
    total: int


OnStep = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Pixels as uint8 (n, height, width, 3); the peak of GPU memory is None on a CPU."""

    pixels: np.ndarray
    pipeline_seconds: float
    peak_memory_bytes: int | None


class Pipeline(Protocol):
    """What all text-to-image pipelines of diffusers have, though their base class declares neither."""

    scheduler: Any

    def __call__(self, **arguments: Any) -> Any:
        """Generate."""


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a device is called and how much memory it has: the GPU's own, or the machine's for a CPU."""

    kind: Literal["cuda", "cpu"]
    name: str
    memory_bytes: int
