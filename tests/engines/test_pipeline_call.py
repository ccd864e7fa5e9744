"""What becomes of a pipeline's failures and of output that is no picture."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from generation.engines.errors import (
    DeviceLost,
    InvalidOutput,
    ModelUnavailable,
    OutOfMemory,
    UnsupportedParameter,
)
from generation.engines.loading import load_pipeline
from generation.engines.pipeline_call import call
from tests.engines.models import SHIPPED, ignore, make_request, save_tiny_stable_diffusion

CPU = torch.device("cpu")


class ScriptedPipeline:
    """A pipeline that takes a prompt alone and does as it is told."""

    def __init__(self, behaviour):
        self.scheduler = DDIMScheduler()
        self._behaviour = behaviour

    def __call__(self, prompt):
        return self._behaviour()


def run(behaviour, **changes):
    return call(ScriptedPipeline(behaviour), make_request(**changes), on_step=ignore, device=CPU)


def test_only_arguments_that_the_pipeline_takes_are_passed():
    images = np.array([[[[0.0, 0.25, 1.0]]]], dtype=np.float32)

    pixels = run(lambda: SimpleNamespace(images=images))

    assert pixels.tolist() == [[[[0, 64, 255]]]]


def test_several_images_of_a_pipeline_that_draws_one_are_refused():
    with pytest.raises(UnsupportedParameter, match="num_images"):
        run(lambda: None, num_images=2)


def test_a_negative_prompt_for_a_pipeline_that_takes_none_is_refused():
    with pytest.raises(UnsupportedParameter, match="negative_prompt"):
        run(lambda: None, negative_prompt="blurry")


def test_a_pipeline_that_makes_no_images_is_refused():
    with pytest.raises(ModelUnavailable, match="ScriptedPipeline does not make RGB images"):
        run(lambda: SimpleNamespace(frames=[]))


def test_pixels_that_are_not_numbers_are_invalid_output(tmp_path):
    pipe = load_pipeline(save_tiny_stable_diffusion(tmp_path), device="cpu")
    torch.nn.init.constant_(pipe.unet.conv_out.bias, torch.nan)

    with pytest.raises(InvalidOutput, match="float32"):
        call(pipe, make_request(), on_step=ignore, device=CPU)


def test_nothing_is_decoded_once_on_step_has_raised():
    pipe = load_pipeline(SHIPPED, device="cpu")
    decoded = []
    pipe.vae.decoder.register_forward_hook(lambda *_: decoded.append("decoded"))

    def stop(progress):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        call(pipe, make_request(), on_step=stop, device=CPU)

    assert decoded == []


def test_an_allocation_that_fails_is_out_of_memory():
    with pytest.raises(OutOfMemory, match="smaller size") as caught:
        run(lambda: torch.empty(2**60))

    assert caught.value.peak_memory_bytes is None


def test_out_of_memory_frees_what_the_failed_call_held():
    held = []

    def fail():
        latents = torch.zeros(1)
        held.append(weakref.ref(latents))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(OutOfMemory) as caught:
        run(fail)

    assert held[0]() is None, caught


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_cuda_error_means_that_the_device_is_lost(error):
    def fail():
        raise error

    with pytest.raises(DeviceLost, match="fresh process") as caught:
        run(fail)

    assert caught.value.__cause__ is error


def test_an_unexpected_error_comes_out_unchanged():
    def fail():
        raise IndexError("a bug")

    with pytest.raises(IndexError, match="a bug"):
        run(fail)
