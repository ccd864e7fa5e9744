"""One generation as a call of a diffusers pipeline: its arguments, its steps, its pixels."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from generation.engines.abilities import REFERENCES
from generation.engines.denoise_loop import DenoiseLoop
from generation.engines.denoised import LastStep
from generation.engines.device import fault
from generation.engines.errors import (
    EngineError,
    InvalidOutput,
    ModelUnavailable,
    UnsupportedParameter,
    UnusableState,
)
from generation.engines.offers import CallOffers
from generation.engines.previews import Previewer
from generation.engines.resumption import Resumption
from generation.engines.state import SavedState
from generation.engines.types import ImageRequest, OnStep, Pipeline, Progress


def call(
    pipe: Pipeline,
    request: ImageRequest,
    *,
    on_step: OnStep,
    device: torch.device,
    previewer: Previewer | None = None,
    resume_from: SavedState | None = None,
) -> np.ndarray:
    """Run the pipeline; returns uint8 (n, height, width, 3), the bytes of diffusers' own PIL images.

    A pipeline may round the size to what its model can draw. What on_step raises leaves as it is, before
    anything is decoded. With resume_from only the steps after that state are taken. The pipeline and its scheduler
    must be this call's own. Raises EngineError for what can be expected to fail.
    """
    accepted = inspect.signature(pipe.__call__).parameters
    arguments = _arguments(request, accepted=accepted)
    last_step = LastStep(pipe.scheduler)
    loop = DenoiseLoop(pipe.scheduler, generators=arguments["generator"])
    offers = CallOffers(pipe, request, loop, last_step, previewer or Previewer(), device)
    resumption = _resumption(resume_from, pipe=pipe, loop=loop, accepted=accepted)
    steps = _Steps(on_step, offers=offers, resumption=resumption)
    offered = {**arguments, **_reference_arguments(pipe, request), "callback_on_step_end": steps}
    if "callback_on_step_end" not in accepted:  # PixArt, DeepFloyd IF
        vars(pipe)["progress_bar"] = steps.progress_bar
    try:
        output = pipe(**{name: value for name, value in offered.items() if name in accepted})
        return _pixels(output, made_by=type(pipe).__name__)
    except Exception as error:
        if steps.is_in_on_step or isinstance(error, EngineError):
            raise
        expected = fault(error, device=device) or _refusal(error, made_by=type(pipe).__name__)
        if expected is None:
            raise
        raise expected from error


class _Steps:
    """The pipeline's callback_on_step_end; is_in_on_step stays true once on_step has raised."""

    def __init__(self, on_step: OnStep, *, offers: CallOffers, resumption: Resumption | None) -> None:
        self._on_step = on_step
        self._offers = offers
        self._resumption = resumption
        self.is_in_on_step = False

    def __call__(
        self, pipe: Pipeline, index: int, timestep: object, tensors: Mapping[str, object]
    ) -> dict[str, object]:
        total = getattr(pipe, "num_timesteps", None) or len(pipe.scheduler.timesteps)
        step, latents = index + 1, tensors.get("latents")
        if self._resumption is not None and self._resumption.passes_over(step):
            return self._resumption.pass_over(step=step, total=total, latents=latents)
        # A pipeline inside this one has a scheduler of its own, and latents that say nothing about ours.
        self.tell(step=step, total=total, latents=latents if pipe is self._offers.pipe else None)
        return {}

    def progress_bar(self, iterable: Collection[Any] | None = None, total: int | None = None) -> _ProgressBar:
        """What takes the place of a pipeline's method, where it takes no callback."""
        items = () if iterable is None else iterable  # a tensor has no truth
        return _ProgressBar(self, iterable=items, total=len(items) if total is None else total)

    def tell(self, *, step: int, total: int, latents: object = None) -> None:
        """A step is done."""
        offers = self._offers.at(step=step, total=total, latents=latents)
        self.is_in_on_step = True
        self._on_step(Progress(step=step, total=total, offers=offers))
        self.is_in_on_step = False
        offers.is_over = True


class _ProgressBar:
    """As much of tqdm as pipelines use."""

    def __init__(self, steps: _Steps, *, iterable: Collection[Any], total: int) -> None:
        self._steps = steps
        self._iterable = iterable
        self._total = total
        self._done = 0

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        self._done += count
        self._steps.tell(step=self._done, total=max(self._done, self._total))


def _resumption(
    state: SavedState | None, *, pipe: Pipeline, loop: DenoiseLoop, accepted: Mapping[str, inspect.Parameter]
) -> Resumption | None:
    if state is None:
        return None
    if "callback_on_step_end" not in accepted:
        raise UnusableState("This model cannot go on from a saved state. Start the generation from the beginning.")
    return Resumption(state, pipe=pipe, loop=loop)


def _arguments(request: ImageRequest, *, accepted: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The request in the words of diffusers; raises UnsupportedParameter for what must not be left out."""
    if request.negative_prompt and not _heeds_negative_prompt(accepted):
        raise UnsupportedParameter("This model takes no negative prompt. Leave negative_prompt empty.")
    if request.num_images > 1 and "num_images_per_prompt" not in accepted:
        raise UnsupportedParameter("This model draws one image at a time. Set num_images to 1.")
    if request.strength is not None and "strength" not in accepted:
        raise UnsupportedParameter("This model redraws an image in its own measure. Leave out strength.")
    if request.strength is not None and request.strength * request.num_inference_steps < 1:
        raise UnsupportedParameter("No step is left at this strength. Ask for more strength or num_inference_steps.")
    # Left out when empty, as "" is not the same: SDXL then no longer zeroes the negative embedding.
    negative_prompt = {"negative_prompt": request.negative_prompt} if request.negative_prompt else {}
    return {
        **negative_prompt,
        **_image_arguments(request),
        "prompt": request.prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "num_images_per_prompt": request.num_images,
        # On the CPU whatever the device, because a GPU's generator gives other numbers for the same seed.
        "generator": [torch.Generator("cpu").manual_seed(request.seed + i) for i in range(request.num_images)],
        # Not "pt": some pipelines (Kandinsky) then leave out the step from [-1, 1] to [0, 1].
        "output_type": "np",
    }


def _image_arguments(request: ImageRequest) -> dict[str, Any]:
    """What there is of image, mask and strength, in the size that is asked for: not every pipeline scales them."""
    offered = {
        "image": _picture(request.image, request, resampling=Image.Resampling.LANCZOS),
        "mask_image": _picture(request.mask, request, resampling=Image.Resampling.NEAREST),
        "strength": request.strength,
    }
    return {name: value for name, value in offered.items() if value is not None}


def _reference_arguments(pipe: Pipeline, request: ImageRequest) -> dict[str, Any]:
    """The list of images, by the name that the pipeline has for it."""
    if not request.references:
        return {}
    return {REFERENCES[type(pipe).__name__]: [Image.fromarray(pixels) for pixels in request.references]}


def _picture(pixels: np.ndarray | None, request: ImageRequest, *, resampling: Image.Resampling) -> Image.Image | None:
    if pixels is None:
        return None
    return Image.fromarray(pixels).resize((request.width, request.height), resampling)


def _heeds_negative_prompt(accepted: Mapping[str, inspect.Parameter]) -> bool:
    """FLUX accepts one, yet ignores it while true_cfg_scale, which no request sets, is at its 1."""
    true_cfg_scale = accepted.get("true_cfg_scale")
    is_switched_off = true_cfg_scale is not None and true_cfg_scale.default <= 1
    return "negative_prompt" in accepted and not is_switched_off


def _pixels(output: object, *, made_by: str) -> np.ndarray:
    """The pipeline's output in bytes, rounded as VaeImageProcessor.numpy_to_pil does it."""
    images = getattr(output, "images", None)
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[-1] != 3:
        raise ModelUnavailable(f"{made_by} does not make RGB images. Serve a text-to-image model.")
    if images.dtype == np.uint8:
        return images  # rounded on the device
    if not np.isfinite(images).all():
        raise InvalidOutput(
            "The model gave pixels that are not numbers. Serve it in bfloat16 or float32 instead of float16, "
            "or ask for a lower guidance_scale."
        )
    return (images * 255).round().astype(np.uint8)


def _refusal(error: Exception, *, made_by: str) -> UnsupportedParameter | None:
    """Pipelines and schedulers check their arguments with these two exceptions."""
    if isinstance(error, (TypeError, ValueError)):
        return UnsupportedParameter(f"{made_by} does not take this request: {error}")
    return None
