"""The values that travel to and from an engine; importing them needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from generation.engines.packed_state import PackedState

if TYPE_CHECKING:
    import numpy as np

    from generation.engines.state import SavedState


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's weights are: a local folder in diffusers format, or a Hugging Face Hub id.

    With `may_save_memory` pictures that do not fit otherwise are decoded in tiles, which may leave faint seams, and
    text encoders wait in main memory.
    """

    slug: str
    source: str
    revision: str | None = None
    dtype: str = "auto"
    may_save_memory: bool = True


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What to draw; `width` and `height` are in pixels, and scheduler "" is the model's own.

    With `is_reproducible` the pixels are the same to the last bit whatever else runs on the device.

    With an `image`, uint8 (height, width, 3), it is redrawn; with a `mask`, uint8 (height, width), only where that is
    255. Both are scaled to `width` and `height`. `strength`, above 0 and up to 1, is the share of the steps
    that are taken, and None the pipeline's own default. `references`, each uint8 (h, w, 3) of any size, are looked at
    by pipelines that take a list of images.
    """

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
    is_reproducible: bool = False
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    strength: float | None = None
    references: tuple[np.ndarray, ...] = ()


class Offers(Protocol):
    """What can be had at a denoise step, and costs nothing unless it is asked for."""

    def copy_state(self) -> Callable[[], SavedState | PackedState] | None:
        """The state to go on from after this step, on its way to the host."""

    def start_preview(self) -> Callable[[], np.ndarray | None] | None:
        """A small picture of what becomes of it, on its way to the host."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Denoising steps done, of all there are: some schedulers take more than num_inference_steps."""

    step: int
    total: int
    offers: Offers | None = field(default=None, compare=False, repr=False)

    def copy_state(self) -> Callable[[], SavedState | PackedState] | None:
        """Begin to copy the state to go on from after this step; None if the pipeline or its scheduler has none.

        Only while on_step runs, and in its thread. What is returned gives the state in any thread, at any time: it
        waits for the device, and holds the memory of the copy there until then.
        """
        return self.offers.copy_state() if self.offers is not None else None

    def save(self) -> SavedState | PackedState | None:
        """The same state at once: this thread waits for the device, and nobody else does."""
        copy = self.copy_state()
        return copy() if copy is not None else None

    def start_preview(self) -> Callable[[], np.ndarray | None] | None:
        """Begin to draw a small picture of what the first image becomes; None if there is no way to draw one.

        Only while on_step runs, and in its thread. What is returned gives it, uint8 (h, w, 3), in any thread: it waits
        for the device, and gives None if the pipeline turns out to have no preview.
        """
        return self.offers.start_preview() if self.offers is not None else None

    def preview(self) -> np.ndarray | None:
        """The same picture at once: this thread waits for the device, and nobody else does."""
        finish = self.start_preview()
        return finish() if finish is not None else None


OnStep = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class LinkCost:
    """What the way from a worker to its engine and back took beside the pipeline call, in milliseconds.

    `serialise` is making bytes of values and values of bytes, on both sides; `transfer` is the bytes on their way;
    `wait` is the time in the engine, or before its door, until the pipeline could begin. None is what nobody tells.
    """

    serialise_ms: float | None
    transfer_ms: float | None
    wait_ms: float


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """Pixels as uint8 (n, height, width, 3); the peak of GPU memory is None on a CPU."""

    pixels: np.ndarray
    pipeline_seconds: float
    peak_memory_bytes: int | None
    cost: LinkCost | None = None


class Pipeline(Protocol):
    """What all text-to-image pipelines of diffusers have, though their base class declares little of it."""

    config: Any
    scheduler: Any

    def __call__(self, **arguments: Any) -> Any:
        """Generate."""


def places(pixels: int, *, usual: int, at_once: int) -> int:
    """How many of `at_once` places pictures of so many pixels in all take, where one of `usual` pixels takes one.

    Never all of them: while one fills the device the next gets ready. One where `usual` is not known.
    """
    return max(1, min(round(pixels / usual), at_once - 1)) if usual else 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a device knows of a model in its memory.

    `at_once` generations keep the device busy, of one picture of so many `pixels` each (0 if nobody knows);
    `is_batched` tells whether they share forwards, and `reason` why not, or why not with the same bits. `rows` is how
    many rows share one at most, by the shape of a row.
    """

    slug: str
    at_once: int
    is_batched: bool
    is_reproducible: bool
    reason: str
    rows: Mapping[str, int]
    pixels: int = 0

    def places_of(self, request: ImageRequest) -> int:
        """How many of the `at_once` places a generation takes."""
        return places(request.num_images * request.width * request.height, usual=self.pixels, at_once=self.at_once)


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a device is called and how much memory it has: the GPU's own, or the machine's for a CPU."""

    kind: Literal["cuda", "cpu"]
    name: str
    memory_bytes: int
