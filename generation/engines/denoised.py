"""The finished picture as a step of the denoise loop foresees it, from what the scheduler was given there.

Latents between two steps are mostly noise; what the denoiser makes of them shows the picture from the first steps on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch

from generation.engines.host_scalars import sent


@dataclass(frozen=True, slots=True)
class _Given:
    model_output: torch.Tensor
    timestep: Any
    sample: torch.Tensor


class LastStep:
    """Looks on while a pipeline calls `scheduler.step`, and keeps what the last call was given."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._given: _Given | None = None
        step = scheduler.step
        if list(inspect.signature(step).parameters)[:3] == ["model_output", "timestep", "sample"]:
            scheduler.step = self._looking_on(step)

    def _looking_on(self, step: Any) -> Any:
        @wraps(step)  # pipelines look at its signature
        def look_on(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
            self._given = _Given(model_output, timestep, sample)
            return step(model_output, timestep, sample, *args, **kwargs)

        return look_on

    def foresight(self) -> Callable[[], torch.Tensor | None] | None:
        """What gives the latents of the finished picture as this step foresees it; None before the first step.

        They are float32, or None if the scheduler is of an unknown kind. It may be called while later steps are taken.
        """
        return partial(self._foresee, self._given) if self._given is not None else None

    def _foresee(self, given: _Given) -> torch.Tensor | None:
        sample, output = given.sample.float(), given.model_output.float()
        if output.shape[1] == 2 * sample.shape[1]:
            output = output.chunk(2, dim=1)[0]  # the other half is a learned variance
        config = self._scheduler.config
        timestep = torch.as_tensor(given.timestep, dtype=torch.float32)
        if timestep.ndim:  # a single one may stay on the host
            timestep = sent(timestep, sample.device)
        prediction_type = config.get("prediction_type", "flow_prediction")
        if prediction_type == "flow_prediction":
            return sample - timestep / config.num_train_timesteps * output
        if not hasattr(self._scheduler, "alphas_cumprod"):
            return None
        index = timestep.round().long().clamp(0, config.num_train_timesteps - 1)
        alpha_cumprod = sent(self._scheduler.alphas_cumprod.float(), timestep.device)[index]
        if float(self._scheduler.init_noise_sigma) != 1:
            sample = sample * alpha_cumprod.sqrt()  # here noise is added to the picture at full strength
        return _denoised(sample, output, alpha_cumprod=alpha_cumprod, prediction_type=prediction_type)


def _denoised(
    sample: torch.Tensor, output: torch.Tensor, *, alpha_cumprod: torch.Tensor, prediction_type: str
) -> torch.Tensor | None:
    """Equation 15 of DDPM (arXiv:2006.11239), and appendix D of progressive distillation (arXiv:2202.00512)."""
    alpha, sigma = alpha_cumprod.sqrt(), (1 - alpha_cumprod).sqrt()
    match prediction_type:
        case "epsilon":
            return (sample - sigma * output) / alpha
        case "v_prediction":
            return alpha * sample - sigma * output
        case "sample":
            return output
        case _:
            return None
