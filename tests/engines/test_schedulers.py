"""The table of schedulers, tried on a denoiser that is perfect because its data is one Gaussian."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from generation.engines.errors import UnsupportedParameter
from generation.engines.schedulers import SCHEDULERS, build, compatible, compatible_with, keep_timesteps_on_host
from tests.engines.models import FOLDER

MEAN, DEVIATION = 2.0, 0.3
DIFFUSION = compatible_with("DDIMScheduler")
FLOW_MATCHING = compatible_with("FlowMatchEulerDiscreteScheduler")


def make_pipe(scheduler=None):
    """As much of a pipeline as a scheduler is built from; with the shipped model's if none is given."""
    return SimpleNamespace(
        scheduler=scheduler or DPMSolverMultistepScheduler.from_pretrained(FOLDER, subfolder="scheduler")
    )


def make_flow_pipe(**config):
    """The scheduler of a flow matching model as it is read from a file, with the name of its class."""
    return make_pipe(
        FlowMatchEulerDiscreteScheduler.from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", **config})
    )


def denoise(scheduler, predict, noise):
    """The loop of a pipeline."""
    latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for timestep in scheduler.timesteps:
        model_input = latents
        if hasattr(scheduler, "scale_model_input"):
            model_input = scheduler.scale_model_input(latents, timestep)
        prediction = predict(model_input, float(timestep))
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


def predict_v(alphas_cumprod):
    """The v-prediction (arXiv:2202.00512) of a model that knows the data's distribution."""

    def predict(latents, timestep):
        alpha_cumprod = np.interp(timestep, np.arange(len(alphas_cumprod)), alphas_cumprod)
        alpha, sigma = alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5
        rest = (latents - alpha * MEAN) / ((alpha * DEVIATION) ** 2 + sigma**2)
        return alpha * sigma * rest - sigma * (MEAN + alpha * DEVIATION**2 * rest)

    return predict


def predict_velocity(latents, timestep):
    """The velocity (arXiv:2210.02747) of a model that knows the data's distribution."""
    t = timestep / 1000
    rest = (latents - (1 - t) * MEAN) / (((1 - t) * DEVIATION) ** 2 + t**2)
    return t * rest - MEAN - (1 - t) * DEVIATION**2 * rest


@pytest.mark.parametrize("name", DIFFUSION)
def test_each_diffusion_scheduler_finds_the_data_of_a_perfect_denoiser(name):
    torch.manual_seed(0)
    pipe = make_pipe()
    alphas_cumprod = pipe.scheduler.alphas_cumprod.double().numpy()
    scheduler = build(name, pipe=pipe)
    scheduler.set_timesteps(20)

    found = denoise(scheduler, predict_v(alphas_cumprod), torch.randn(1, 4, 32, 32))

    assert found.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert found.std().item() == pytest.approx(DEVIATION, abs=0.1)


@pytest.mark.parametrize("name", FLOW_MATCHING)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_each_flow_matching_scheduler_finds_the_data_of_a_perfect_denoiser(name, shift):
    torch.manual_seed(0)
    noise = torch.randn(1, 4, 32, 32)
    scheduler = build(name, pipe=make_flow_pipe(shift=shift))
    scheduler.set_timesteps(50)

    found = denoise(scheduler, predict_velocity, noise)

    assert (found - (MEAN + DEVIATION * noise)).abs().mean() < 0.03


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_scheduler_runs_with_few_steps(name, steps):
    pipe = make_flow_pipe() if name in FLOW_MATCHING else make_pipe()
    scheduler = build(name, pipe=pipe)
    scheduler.set_timesteps(steps)

    found = denoise(scheduler, lambda latents, timestep: -latents, torch.randn(1, 4, 8, 8))

    assert torch.isfinite(found).all()


def test_no_name_gives_a_fresh_scheduler_as_the_model_has_it():
    pipe = make_pipe()

    scheduler = build("", pipe=pipe)

    assert scheduler is not pipe.scheduler
    assert scheduler.config == pipe.scheduler.config


def test_a_plain_name_undoes_the_spacing_of_the_models_own_scheduler():
    pipe = make_pipe(EulerDiscreteScheduler(use_exponential_sigmas=True))

    plain, karras = build("euler", pipe=pipe), build("euler_karras", pipe=pipe)

    assert (plain.config.use_exponential_sigmas, plain.config.use_karras_sigmas) == (False, False)
    assert (karras.config.use_exponential_sigmas, karras.config.use_karras_sigmas) == (False, True)


def test_a_model_keeps_its_timestep_shift_under_another_scheduler():
    scheduler = build("flow_match_unipc", pipe=make_flow_pipe(shift=3.0))

    assert scheduler.config.flow_shift == 3.0


@pytest.mark.parametrize("name", SCHEDULERS)
def test_building_warns_of_nothing(name, caplog):
    logging.getLogger("diffusers").propagate = True

    build(name, pipe=make_flow_pipe() if name in FLOW_MATCHING else make_pipe())

    assert caplog.records == []


@pytest.mark.parametrize(
    ("pipe", "expected"),
    [
        (make_pipe(), DIFFUSION),
        (make_flow_pipe(), FLOW_MATCHING),
        (
            make_pipe(DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)),
            FLOW_MATCHING,
        ),
        (make_pipe(LCMScheduler()), ()),
    ],
)
def test_the_kind_of_noise_decides_what_fits(pipe, expected):
    assert compatible(pipe) == expected


@pytest.mark.parametrize("name", ["flow_match_euler", "pndm", "Euler"])
def test_a_name_that_does_not_fit_is_refused_with_those_that_do(name):
    with pytest.raises(UnsupportedParameter, match="dpmpp_2m"):
        build(name, pipe=make_pipe())


def test_a_distilled_model_takes_its_own_scheduler_alone():
    with pytest.raises(UnsupportedParameter, match="the only one that does"):
        build("euler", pipe=make_pipe(LCMScheduler()))


def test_timesteps_that_are_kept_on_the_host_are_so_whatever_device_is_asked_for():
    scheduler = build("ddim", pipe=make_pipe())

    keep_timesteps_on_host(scheduler)
    scheduler.set_timesteps(4, device="meta")

    assert scheduler.timesteps.device.type == "cpu"
