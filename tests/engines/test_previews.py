"""Previews show the picture that is to come, long before it is there."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler

from generation.engines import projections
from generation.engines.denoised import LastStep
from generation.engines.previews import Previewer
from generation.engines.schedulers import SCHEDULERS, build, compatible_with
from tests.engines.models import ignore, make_request, open_engine, save_tiny_flux, shipped_engine
from tests.engines.test_schedulers import make_flow_pipe, make_pipe

CPU = torch.device("cpu")
FLOW_MATCHING = compatible_with("FlowMatchEulerDiscreteScheduler")


def preview_at(step, engine, request):
    previews = {}

    def on_step(progress):
        if progress.step == step:
            previews[step] = progress.preview()

    pixels = engine.generate(request, on_step=on_step).pixels
    return previews[step], pixels


def reduced(pixels, height, width):
    """The mean colour of each block of pixels."""
    blocks = pixels.reshape(height, pixels.shape[0] // height, width, pixels.shape[1] // width, 3)
    return blocks.mean(axis=(1, 3))


@pytest.mark.parametrize("scheduler", ["", "euler", "ddim"])
def test_a_preview_half_way_looks_like_the_picture(scheduler):
    request = make_request(width=256, height=256, num_inference_steps=8, scheduler=scheduler)

    preview, pixels = preview_at(4, shipped_engine(), request)

    assert preview.shape == (32, 32, 3) and preview.dtype == np.uint8
    difference = preview.astype(float) - reduced(pixels[0].astype(float), 32, 32)
    assert np.sqrt((difference**2).mean()) < 25  # a grey square would be off by 90


def test_a_preview_that_is_waited_for_later_is_still_of_its_step():
    request, later, at_once = make_request(num_inference_steps=4), [], []

    def on_step(progress):
        if progress.step == 1:
            later.append(progress.start_preview())
            at_once.append(progress.preview())

    shipped_engine().generate(request, on_step=on_step)

    assert np.array_equal(later[0](), at_once[0])


def test_looking_changes_nothing():
    request = make_request(num_inference_steps=3)

    looking = shipped_engine().generate(request, on_step=lambda progress: progress.preview()).pixels

    assert np.array_equal(looking, shipped_engine().generate(request, on_step=ignore).pixels)


def test_packed_latents_are_unpacked_first(tmp_path):
    request = make_request(model=save_tiny_flux(tmp_path), width=96, height=64)

    preview, _ = preview_at(1, open_engine(), request)

    assert preview.shape == (8, 12, 3)


def test_there_is_no_preview_once_on_step_has_returned():
    seen = []

    shipped_engine().generate(make_request(), on_step=seen.append)

    assert seen[0].preview() is None


def stepped():
    """What has seen one step of a denoise loop."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(4)
    last_step = LastStep(scheduler)
    scheduler.step(torch.zeros(1, 4, 8, 8), torch.tensor(500), torch.zeros(1, 4, 8, 8))
    return last_step


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_scheduler_foresees_what_a_sure_denoiser_wants(name):
    pipe = make_flow_pipe() if name in FLOW_MATCHING else make_pipe()
    scheduler = build(name, pipe=pipe)
    scheduler.set_timesteps(10)
    last_step = LastStep(scheduler)
    target, noise = torch.full((1, 4, 8, 8), 0.7), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    is_flow = name in FLOW_MATCHING
    timestep = scheduler.timesteps[3]

    if is_flow:
        sigma = timestep / 1000
        latents, output = (1 - sigma) * target + sigma * noise, noise - target
    else:
        alpha_cumprod = scheduler.alphas_cumprod[timestep.round().long()]
        latents = alpha_cumprod.sqrt() * target + (1 - alpha_cumprod).sqrt() * noise
        output = alpha_cumprod.sqrt() * noise - (1 - alpha_cumprod).sqrt() * target
        if scheduler.init_noise_sigma != 1:
            latents = latents / alpha_cumprod.sqrt()
    scheduler.set_begin_index(3) if hasattr(scheduler, "set_begin_index") else None
    if hasattr(scheduler, "scale_model_input"):
        scheduler.scale_model_input(latents, timestep)
    scheduler.step(output, timestep, latents)

    assert torch.allclose(last_step.foresight()(), target, atol=1e-3)


def test_a_prediction_of_the_noise_is_understood():
    scheduler = DDIMScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(4)
    last_step = LastStep(scheduler)
    noise, alpha_cumprod = torch.randn(1, 4, 8, 8), scheduler.alphas_cumprod[500]

    scheduler.step(noise, torch.tensor(500), alpha_cumprod.sqrt() * 0.5 + (1 - alpha_cumprod).sqrt() * noise)

    assert torch.allclose(last_step.foresight()(), torch.full((1, 4, 8, 8), 0.5), atol=1e-3)


def test_nothing_is_foreseen_before_the_first_step():
    assert LastStep(LCMScheduler()).foresight() is None


@pytest.mark.parametrize(("channels", "scaling_factor"), [(4, 0.18215), (4, 0.13025), (16, 1.5305), (16, 0.3611)])
def test_the_projections_of_well_known_vaes_are_known(channels, scaling_factor):
    projection = projections.known({"latent_channels": channels, "scaling_factor": scaling_factor})

    assert projection(torch.zeros(channels, 3, 5)).shape == (3, 5, 3)


def test_other_vaes_have_no_known_projection():
    assert projections.known({"latent_channels": 8, "scaling_factor": 1.0}) is None


def test_a_vae_that_cannot_be_tried_costs_previews_and_nothing_else(caplog):
    logging.getLogger("generation").propagate = True
    pipe = SimpleNamespace(vae=SimpleNamespace(config={}, dtype=torch.float32))
    previewer = Previewer()

    pictures = [previewer.start(stepped(), pipe=pipe, width=64, height=64, device=CPU) for _ in range(2)]

    assert pictures == [None, None]
    assert len(caplog.records) == 1


def test_a_pipeline_without_a_vae_has_no_previews():
    assert Previewer().start(stepped(), pipe=SimpleNamespace(), width=64, height=64, device=CPU) is None
