"""Stand-ins for parts of a pipeline: what several threads may do at once, and what stays as diffusers has it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from generation.engines.knees import OneAtATime, PixelBudget
from generation.engines.rows import Disassembler
from generation.engines.standins import DevicePostprocessor, SharedDenoiser, SharedVae, StandIn
from tests.engines.models import shipped_parts
from tests.engines.tiny import Denoiser, callee_of, sample

THREADS = 8


@pytest.fixture(scope="module")
def vae():
    return shipped_parts()["vae"]


def shared_vae(vae, threads):
    decodes = callee_of(vae.decode, name="decode", limits=PixelBudget(pixels_per_latent=64))
    encodes = callee_of(vae.encode, name="encode", limits=OneAtATime())
    return SharedVae(vae, decodes=Disassembler(decodes), encodes=Disassembler(encodes), batcher=threads.batcher)


def latents(vae, *, seed):
    shape = (1 + seed % 2, vae.config.latent_channels, 4, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_pictures_decoded_and_encoded_by_many_threads_at_once_are_what_they_are_one_by_one(vae, threads):
    seeds = range(32)
    expected = [vae.decode(latents(vae, seed=seed)).sample for seed in seeds]
    expected_back = [vae.encode(picture).latent_dist.mean for picture in expected]
    begin = threading.Barrier(THREADS)

    def hammer(start):
        begin.wait(60)
        stand_in, made = shared_vae(vae, threads), []
        for seed in seeds[start::THREADS]:
            picture = stand_in.decode(latents(vae, seed=seed)).sample
            made.append((seed, picture, stand_in.encode(picture).latent_dist.mean))
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        made = [entry for part in pool.map(hammer, range(THREADS)) for entry in part]

    assert len(made) == len(seeds)
    for seed, picture, back in made:
        torch.testing.assert_close(picture, expected[seed], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(back, expected_back[seed], rtol=1e-3, atol=1e-3)


# --- The denoiser ----------------------------------------------------------------------------------------


def test_a_stand_in_has_what_the_part_has(vae):
    stand_in = StandIn(vae)

    assert stand_in.config is vae.config
    assert stand_in.dtype == vae.dtype


def test_a_stand_in_lacks_what_the_part_lacks(vae):
    assert not hasattr(StandIn(vae), "cross_attention_dim")


def test_a_shared_denoiser_gives_what_the_denoiser_gives(threads):
    denoiser = Denoiser()
    with threads.membership() as member:
        shared = SharedDenoiser(
            denoiser,
            calls=Disassembler(callee_of(denoiser)),
            batcher=threads.batcher,
            member=member,
            while_waiting=bool,
        )

        output = shared(sample(2), timestep=3)

    torch.testing.assert_close(output[0], denoiser(sample(2), 3.0)[0])


# --- The VAE ---------------------------------------------------------------------------------------------


def test_a_shared_vae_stays_in_its_dtype(vae, threads):
    shared = shared_vae(vae, threads)

    assert shared.to(torch.float16) is shared
    assert vae.dtype == torch.float32


def test_latents_of_another_dtype_are_converted(vae, threads):
    picture = shared_vae(vae, threads).decode(latents(vae, seed=1).half()).sample

    assert picture.dtype == torch.float32


def test_generators_that_nobody_draws_from_keep_no_decodes_apart(vae, threads):
    decodes = Disassembler(callee_of(vae.decode, limits=OneAtATime()))
    keys = []

    class Watched(Disassembler):
        def __init__(self):
            pass

        def take_apart(self, *args, **kwargs):
            call = decodes.take_apart(*args, **kwargs)
            keys.append(call.key)
            return call

    shared = SharedVae(vae, decodes=Watched(), encodes=decodes, batcher=threads.batcher)
    for _ in range(2):
        shared.decode(latents(vae, seed=1), return_dict=False, generator=torch.Generator())

    assert keys[0] == keys[1]


def test_a_decode_that_cannot_be_taken_apart_is_made_alone(threads):
    class OddVae(torch.nn.Module):
        dtype = torch.float32

        def decode(self, z, options=None):
            return z + len(options)

        def encode(self, x):
            return x

    output = shared_vae(OddVae(), threads).decode(torch.zeros(1, 4, 2, 2), options={1: {2}})

    assert torch.equal(output, torch.ones(1, 4, 2, 2))


# --- The image processor ---------------------------------------------------------------------------------


def postprocessor():
    return DevicePostprocessor(VaeImageProcessor(), is_finished=lambda image: False)


def test_the_bytes_of_pictures_are_those_of_diffusers():
    pictures = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))

    pixels = postprocessor().postprocess(pictures, output_type="np")

    expected = [np.asarray(picture) for picture in VaeImageProcessor().postprocess(pictures, output_type="pil")]
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


def test_the_bytes_of_pictures_in_half_precision_are_those_of_diffusers():
    pictures = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)).bfloat16()

    pixels = postprocessor().postprocess(pictures, output_type="np")

    expected = [np.asarray(picture) for picture in VaeImageProcessor().postprocess(pictures, output_type="pil")]
    assert np.array_equal(pixels, expected)


def test_pictures_that_are_not_to_be_denormalized_are_not():
    pictures = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))

    pixels = postprocessor().postprocess(pictures, output_type="np", do_denormalize=[False, True])

    assert np.array_equal(pixels[0], (pictures[0] * 255).round().byte().permute(1, 2, 0).numpy())
    assert not np.array_equal(pixels[1], (pictures[1] * 255).round().byte().permute(1, 2, 0).numpy())


def test_a_pixel_that_is_no_number_shows():
    pictures = torch.zeros(1, 3, 8, 6)
    pictures[0, 1, 2, 3] = float("nan")

    pixels = postprocessor().postprocess(pictures, output_type="np")

    assert pixels.shape == (1, 8, 6, 3)
    assert not np.isfinite(pixels).all()


def test_other_types_of_output_are_those_of_diffusers():
    pictures = torch.zeros(1, 3, 8, 6)

    assert isinstance(postprocessor().postprocess(pictures)[0], Image.Image)
    assert isinstance(postprocessor().postprocess(pictures, output_type="pt"), torch.Tensor)
