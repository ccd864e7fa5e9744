"""The engine on a CPU, with the shipped model and with tiny ones of other families."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from generation.engines import device
from generation.engines import engine as engine_module
from generation.engines.engine import Engine
from generation.engines.errors import DeviceLost, ModelUnavailable, UnsupportedParameter
from generation.engines.loading import load_pipeline
from generation.engines.types import Progress
from tests.engines.models import (
    FOLDER,
    SHIPPED,
    ignore,
    make_request,
    open_engine,
    save_tiny_flux,
    save_tiny_stable_diffusion,
    shipped_engine,
)


def draw(**changes):
    return shipped_engine().generate(make_request(**changes), on_step=ignore).pixels


def test_the_bytes_are_those_of_a_plain_diffusers_call():
    pipe = DiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32)
    plain = pipe(
        "red apple",
        width=64,
        height=64,
        num_inference_steps=2,
        guidance_scale=4.5,
        generator=torch.Generator().manual_seed(7),
    )

    pixels = draw()

    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[0], np.asarray(plain.images[0]))


def test_the_same_seed_gives_the_same_bytes():
    first = draw(seed=3, scheduler="euler_ancestral")

    second = draw(seed=3, scheduler="euler_ancestral")

    assert np.array_equal(first, second)


def test_another_seed_gives_another_picture():
    assert not np.array_equal(draw(seed=3), draw(seed=4))


def test_image_i_of_a_seed_is_the_single_image_of_seed_plus_i():
    together = draw(seed=5, num_images=2, scheduler="ddpm")

    alone = np.concatenate([draw(seed=5, scheduler="ddpm"), draw(seed=6, scheduler="ddpm")])

    assert np.abs(together.astype(int) - alone).max() <= 2  # more rows, other kernels, other rounding


def test_a_negative_prompt_changes_the_picture():
    assert not np.array_equal(draw(), draw(negative_prompt="green leaf"))


def test_a_picture_may_be_wider_than_high():
    assert draw(width=96, height=64).shape == (1, 64, 96, 3)


def test_a_size_that_the_pipeline_refuses_is_an_unsupported_parameter():
    with pytest.raises(UnsupportedParameter, match="divisible by 8"):
        draw(width=65)


def test_a_scheduler_that_does_not_fit_is_an_unsupported_parameter():
    with pytest.raises(UnsupportedParameter, match="dpmpp_2m_karras"):
        draw(scheduler="flow_match_euler")


@pytest.mark.parametrize(("scheduler", "total"), [("", 3), ("heun", 5)])
def test_progress_counts_the_steps_that_the_scheduler_really_takes(scheduler, total):
    seen = []

    shipped_engine().generate(make_request(num_inference_steps=3, scheduler=scheduler), on_step=seen.append)

    assert seen == [Progress(step=step, total=total) for step in range(1, total + 1)]


@pytest.mark.parametrize(
    "error", [LookupError("mine"), ValueError("mine"), RuntimeError("CUDA error: mine"), SystemExit()]
)
def test_what_on_step_raises_comes_out_unchanged_and_the_engine_works_on(error):
    before = draw()

    def stop(progress):
        raise error

    with pytest.raises(type(error)) as caught:
        shipped_engine().generate(make_request(), on_step=stop)

    assert caught.value is error
    assert np.array_equal(draw(), before)


def test_generating_does_not_change_the_loaded_model(tmp_path):
    engine = open_engine()
    source = save_tiny_stable_diffusion(tmp_path)
    before = engine.generate(make_request(model=source), on_step=ignore).pixels

    engine.generate(make_request(model=source, scheduler="unipc"), on_step=ignore)

    assert np.array_equal(engine.generate(make_request(model=source), on_step=ignore).pixels, before)


def test_a_transformer_with_flow_matching_runs_by_the_same_code(tmp_path):
    engine = open_engine()
    source = save_tiny_flux(tmp_path)
    engine.load(source)
    seen = []

    drawn = [
        engine.generate(make_request(model=source, num_images=2, scheduler=name), on_step=seen.append).pixels
        for name in ("", *engine.schedulers(source.slug))
    ]

    assert [pixels.shape for pixels in drawn] == [(2, 64, 64, 3)] * 3
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    assert seen == [Progress(1, 2), Progress(2, 2)] * 3


def test_a_negative_prompt_that_the_model_would_ignore_is_refused(tmp_path):
    source = save_tiny_flux(tmp_path)

    with pytest.raises(UnsupportedParameter, match="negative prompt"):
        open_engine().generate(make_request(model=source, negative_prompt="green"), on_step=ignore)


def test_a_model_is_loaded_once_and_forgotten_on_request():
    engine = open_engine()

    engine.load(SHIPPED)
    engine.load(SHIPPED)
    loaded = engine.loaded
    engine.unload(SHIPPED.slug)
    engine.unload(SHIPPED.slug)

    assert loaded == (SHIPPED.slug,)
    assert engine.loaded == ()


def test_another_source_under_the_same_slug_is_loaded_anew(tmp_path):
    engine = open_engine()
    engine.load(SHIPPED)
    source = replace(save_tiny_flux(tmp_path), slug=SHIPPED.slug)

    engine.load(source)

    assert engine.loaded == (SHIPPED.slug,)
    assert "flow_match_euler" in engine.schedulers(SHIPPED.slug)


def test_schedulers_of_a_model_that_is_not_loaded_are_unknown():
    with pytest.raises(ModelUnavailable, match="not loaded"):
        open_engine().schedulers("nothing")


def test_close_forgets_all_models():
    engine = open_engine()
    engine.load(SHIPPED)

    engine.close()

    assert engine.loaded == ()


def test_four_threads_load_one_model_once_and_get_their_own_pictures(monkeypatch):
    loads = []

    def count(source, *, device):
        loads.append(source.slug)
        return load_pipeline(source, device=device)

    monkeypatch.setattr(engine_module, "load_pipeline", count)
    engine = open_engine()
    requests = [make_request(seed=seed, scheduler=name) for seed, name in enumerate(["", "heun", "ddim", "unipc"])]

    def load_and_draw(request):
        engine.load(request.model)
        return engine.generate(request, on_step=ignore).pixels

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(load_and_draw, requests))

    alone = [shipped_engine().generate(request, on_step=ignore).pixels for request in requests]
    assert loads == [SHIPPED.slug]
    assert np.abs(np.array(together, dtype=int) - np.array(alone)).max() <= 2  # other kernels for more rows


def test_who_waits_while_another_model_loads_may_change_their_mind(monkeypatch):
    engine = open_engine()
    engine.load(SHIPPED)
    is_loading, may_load = threading.Event(), threading.Event()

    def load_later(source, *, device):
        is_loading.set()
        assert may_load.wait(60)
        raise ModelUnavailable("not there")

    def cancel(progress):
        raise InterruptedError

    monkeypatch.setattr(engine_module, "load_pipeline", load_later)
    with ThreadPoolExecutor(1) as other_thread:
        loading = other_thread.submit(engine.load, replace(SHIPPED, slug="another"))
        assert is_loading.wait(60)
        with pytest.raises(InterruptedError):
            engine.generate(make_request(), on_step=cancel)
        may_load.set()

    assert isinstance(loading.exception(60), ModelUnavailable)


def test_nothing_but_generating_and_loading_waits_for_a_generation():
    engine = open_engine()
    seen = []

    def look(progress):
        with ThreadPoolExecutor(1) as other_thread:
            other_thread.submit(engine.load, SHIPPED).result()
            seen.append(other_thread.submit(lambda: engine.loaded).result())
            other_thread.submit(engine.unload, SHIPPED.slug).result()

    engine.generate(make_request(num_inference_steps=1), on_step=look)

    assert seen == [(SHIPPED.slug,)]
    assert engine.loaded == ()


def test_a_cpu_describes_itself():
    description = shipped_engine().describe()

    assert description.kind == "cpu"
    assert description.name
    assert description.memory_bytes > 2**28


def test_a_cpu_run_is_timed_and_has_no_peak_of_gpu_memory():
    images = shipped_engine().generate(make_request(), on_step=ignore)

    assert images.pipeline_seconds > 0
    assert images.peak_memory_bytes is None


def test_what_a_gpus_libraries_are_loaded_with_is_sound(monkeypatch):
    monkeypatch.setattr(device, "suppress", lambda *errors: nullcontext())

    device._use_libraries(torch.device("cpu"))


def test_a_thread_without_helpers_computes_by_itself_and_has_them_again_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    with device.without_helpers(torch.device("cpu")):
        meanwhile = torch.get_num_threads()

    afterwards = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (meanwhile, afterwards) == (1, 2)


def test_on_a_cpu_prompts_are_encoded_by_the_thread_that_has_all_cores():
    threads = []
    encoder = shipped_engine()._models[SHIPPED.slug].pipe.text_encoder
    hook = encoder.register_forward_pre_hook(lambda *_: threads.append(threading.current_thread().name))

    draw(prompt="a prompt that nobody else has")

    hook.remove()
    assert set(threads) == {"denoiser"}


def test_a_gpu_that_is_not_there_is_a_lost_device():
    with pytest.raises(DeviceLost, match="nvidia-smi"):
        Engine("cuda:99")
