"""One generation as a call of a diffusers pipeline: its arguments, its steps, its pixels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from generation.engines.device import fault
from generation.engines.errors import EngineError, InvalidOutput, ModelUnavailable, UnsupportedParameter
from generation.engines.types import ImageRequest, OnStep, Pipeline, Progress


def call(pipe: Pipeline, request: ImageRequest, *, on_step: OnStep, device: torch.device) -> np.ndarray:
    """Run the pipeline; returns uint8 (n, height, width, 3), the bytes of diffusers' own PIL images.

    A pipeline may round the size to what its model can draw. What on_step raises leaves as it is, before
    anything is decoded. Raises EngineError for what can be expected to fail.
    """
    accepted = inspect.signature(pipe.__call__).parameters
    steps = _Steps(on_step)
    offered = {**_arguments(request, accepted=accepted), "callback_on_step_end": steps}
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

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self.is_in_on_step = False

    def __call__(
        self, pipe: Pipeline, index: int, timestep: object, tensors: Mapping[str, object]
    ) -> dict[str, object]:
        total = getattr(pipe, "num_timesteps", None) or len(pipe.scheduler.timesteps)
        self.is_in_on_step = True
        self._on_step(Progress(step=index + 1, total=total))
        self.is_in_on_step = False
        return {}


def _arguments(request: ImageRequest, *, accepted: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The request in the words of diffusers; raises UnsupportedParameter for what must not be left out."""
    if request.negative_prompt and not _heeds_negative_prompt(accepted):
        raise UnsupportedParameter("This model takes no negative prompt. Leave negative_prompt empty.")
    if request.num_images > 1 and "num_images_per_prompt" not in accepted:
        raise UnsupportedParameter("This model draws one image at a time. Set num_images to 1.")
    # Left out when empty, as "" is not the same: SDXL then no longer zeroes the negative embedding.
    negative_prompt = {"negative_prompt": request.negative_prompt} if request.negative_prompt else {}
    return {
        **negative_prompt,
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
