"""The schedulers that a request may name, and which of them fit a model.

Two tables, because a model is trained for one kind of noise: diffusion (noise prediction or v-prediction over
a beta schedule) or flow matching. The names follow https://huggingface.co/docs/diffusers/api/schedulers/overview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from generation.engines.errors import UnsupportedParameter
from generation.engines.types import Pipeline

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A diffusers class, what it changes in the model's own configuration, and how it calls the shift."""

    class_name: str
    overrides: Mapping[str, object] = field(default_factory=dict)
    shift_parameter: str = ""


# Latents are not confined to [-1, 1], which these two classes assume unless the configuration says otherwise.
_UNCLIPPED: Mapping[str, object] = {"clip_sample": False}

_PLAIN: Mapping[str, object] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}

# With zero terminal SNR the largest sigma is 4096, not 14.6, and Karras spacing would spend two thirds of the
# steps between the two, where there is nothing but noise.
_KARRAS: Mapping[str, object] = {**_PLAIN, "use_karras_sigmas": True, "rescale_betas_zero_snr": False}

_DPMPP: Mapping[str, object] = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
_DPMPP_SDE: Mapping[str, object] = {**_DPMPP, "algorithm_type": "sde-dpmsolver++"}
_DEIS: Mapping[str, object] = {"algorithm_type": "deis", "solver_order": 2, "solver_type": "logrho"}
_UNIPC: Mapping[str, object] = {"solver_order": 2, "solver_type": "bh2"}
_FLOW: Mapping[str, object] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

_DIFFUSION: Mapping[str, Scheduler] = {
    "ddim": Scheduler("DDIMScheduler", _UNCLIPPED),
    "ddpm": Scheduler("DDPMScheduler", {**_UNCLIPPED, "variance_type": "fixed_small"}),
    "deis": Scheduler("DEISMultistepScheduler", {**_PLAIN, **_DEIS}),
    "dpm2": Scheduler("KDPM2DiscreteScheduler", _PLAIN),
    "dpm2_ancestral": Scheduler("KDPM2AncestralDiscreteScheduler", _PLAIN),
    "dpmpp_2m": Scheduler("DPMSolverMultistepScheduler", {**_PLAIN, **_DPMPP}),
    "dpmpp_2m_karras": Scheduler("DPMSolverMultistepScheduler", {**_KARRAS, **_DPMPP}),
    "dpmpp_2m_sde": Scheduler("DPMSolverMultistepScheduler", {**_PLAIN, **_DPMPP_SDE}),
    "dpmpp_2m_sde_karras": Scheduler("DPMSolverMultistepScheduler", {**_KARRAS, **_DPMPP_SDE}),
    "dpmpp_2s": Scheduler("DPMSolverSinglestepScheduler", {**_PLAIN, **_DPMPP}),
    "euler": Scheduler("EulerDiscreteScheduler", _PLAIN),
    "euler_ancestral": Scheduler("EulerAncestralDiscreteScheduler"),
    "euler_karras": Scheduler("EulerDiscreteScheduler", _KARRAS),
    "heun": Scheduler("HeunDiscreteScheduler", _PLAIN),
    "unipc": Scheduler("UniPCMultistepScheduler", {**_PLAIN, **_UNIPC}),
}

_FLOW_MATCHING: Mapping[str, Scheduler] = {
    "flow_match_euler": Scheduler("FlowMatchEulerDiscreteScheduler", shift_parameter="shift"),
    "flow_match_unipc": Scheduler(
        "UniPCMultistepScheduler", {**_PLAIN, **_UNIPC, **_FLOW}, shift_parameter="flow_shift"
    ),
}

SCHEDULERS: Mapping[str, Scheduler] = {**_DIFFUSION, **_FLOW_MATCHING}

# Classes of schedulers that a model may come with. Not here: those of distilled models (LCM, TCD) and of EDM,
# whose models give nothing good with any scheduler but their own.
_DIFFUSION_CLASSES = {scheduler.class_name for scheduler in _DIFFUSION.values()} | {
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DPMSolverSDEScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
}
_FLOW_MATCHING_CLASSES = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}


def compatible_with(scheduler_class_name: str, *, prediction_type: str = "epsilon") -> tuple[str, ...]:
    """Names that fit a model, from `_class_name` and `prediction_type` of its scheduler_config.json."""
    if scheduler_class_name in _FLOW_MATCHING_CLASSES or prediction_type == "flow_prediction":
        return tuple(_FLOW_MATCHING)
    if scheduler_class_name in _DIFFUSION_CLASSES:
        return tuple(_DIFFUSION)
    return ()


def compatible(pipe: Pipeline) -> tuple[str, ...]:
    """Names that fit a loaded model."""
    own = pipe.scheduler
    return compatible_with(type(own).__name__, prediction_type=own.config.get("prediction_type", "epsilon"))


def build(name: str, *, pipe: Pipeline) -> SchedulerMixin:
    """A fresh scheduler, configured as the model's own; "" is one of the model's own class.

    Raises UnsupportedParameter for a name that is unknown or does not fit the model.
    """
    own = pipe.scheduler
    if not name:
        return type(own).from_config(own.config)
    names = compatible(pipe)
    if name not in names:
        raise UnsupportedParameter(
            f"The scheduler {name!r} does not fit this model. Leave it out for the model's own"
            + (f", or choose one of: {', '.join(names)}." if names else ", the only one that does.")
        )

    import diffusers

    chosen = SCHEDULERS[name]
    overrides = dict(chosen.overrides)
    if chosen.shift_parameter:
        overrides[chosen.shift_parameter] = own.config.get("shift", own.config.get("flow_shift", 1.0))
    return getattr(diffusers, chosen.class_name).from_config(own.config, **overrides)


def keep_timesteps_on_host(scheduler: Any) -> None:
    """Have `set_timesteps` leave the timesteps in main memory, on whatever device it is asked to put them.

    DDIM, PNDM and their kind decide by a timestep in Python at each step. If it were on a GPU, each of them would wait
    there until all that was launched so far is done, and no generation could be ahead of the device.
    """
    set_timesteps = scheduler.set_timesteps

    @wraps(set_timesteps)  # pipelines look at its signature
    def on_host(*args: Any, **kwargs: Any) -> Any:
        return set_timesteps(*args, **kwargs | ({"device": "cpu"} if "device" in kwargs else {}))

    scheduler.set_timesteps = on_host
