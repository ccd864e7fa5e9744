"""Pictures that begin with a picture: image-to-image and inpainting on tiny models of several families."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting
from PIL import Image

from generation.engines.errors import UnsupportedParameter
from tests.engines.company import HEIGHT, ROUNDING, WIDTH, counting_rows, differences, draw_at_once
from tests.engines.models import (
    FAMILIES,
    SHIPPED,
    family_engine,
    ignore,
    make_request,
    open_engine,
    shipped_engine,
)

KINDS = ["image", "image and mask"]
TASKS = {"image": AutoPipelineForImage2Image, "image and mask": AutoPipelineForInpainting}


def make_image():
    """A smooth picture of the size that is asked for."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)


def make_mask():
    """The right half."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    return mask


def make_image_request(family, kind="image", **changes):
    _, source = family_engine(family)
    inputs = {"image": make_image(), "strength": 0.5, **({"mask": make_mask()} if "mask" in kind else {})}
    size = {"width": WIDTH, "height": HEIGHT}
    return make_request(**{"model": source, "num_inference_steps": 6, **size, **inputs, **changes})


def draw(family, request, *, on_step=ignore):
    engine, _ = family_engine(family)
    return engine.generate(request, on_step=on_step).pixels


def draw_plainly(family, kind, request):
    """By diffusers itself."""
    engine, source = family_engine(family)
    pipe = TASKS[kind].from_pipe(engine._models[source.slug].pipe)
    mask = {"mask_image": Image.fromarray(request.mask)} if request.mask is not None else {}
    size = {"width": WIDTH, "height": HEIGHT} if "width" in inspect.signature(pipe.__call__).parameters else {}
    images = pipe(
        prompt=request.prompt,
        image=Image.fromarray(request.image),
        strength=request.strength,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        **mask,
        **size,
    ).images
    return np.asarray(images[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bytes_are_those_of_a_plain_diffusers_call(family, kind):
    request = make_image_request(family, kind)
    plain = draw_plainly(family, kind, request)

    pixels = draw(family, request)

    assert pixels.shape == (1, HEIGHT, WIDTH, 3)
    assert np.array_equal(pixels[0], plain)


@pytest.mark.parametrize("family", ["flux", "z-image"])  # the others have a random VAE
def test_where_the_mask_is_not_set_the_image_stays_and_elsewhere_the_prompt_tells(family):
    request = make_image_request(family, "image and mask", strength=1.0)

    red, green = (
        draw(family, request),
        draw(family, make_image_request(family, "image and mask", strength=1.0, seed=9)),
    )

    change = np.abs(red.astype(int) - green)[0].mean(axis=(0, 2))
    assert change[: WIDTH // 2 - 16].mean() < change[WIDTH // 2 + 16 :].mean() / 4


@pytest.mark.parametrize("can_share", [True, False])
def test_the_shipped_model_paints_where_the_mask_is_set_though_its_latents_have_8_channels(can_share, monkeypatch):
    engine = shipped_engine()
    model = engine._models[SHIPPED.slug]
    monkeypatch.setattr(model, "verdict", replace(model.verdict, can_share=can_share))
    image, mask = make_image(), make_mask()
    size = {"width": WIDTH, "height": HEIGHT, "num_inference_steps": 6}

    painted = engine.generate(make_request(image=image, mask=mask, strength=1.0, **size), on_step=ignore).pixels[0]

    change = np.abs(painted.astype(int) - image).mean(axis=(0, 2))
    assert change[: WIDTH // 2 - 16].mean() < change[WIDTH // 2 + 16 :].mean() / 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_progress_counts_the_steps_that_the_strength_leaves(family, kind):
    seen = []

    draw(family, make_image_request(family, kind), on_step=seen.append)

    assert [(progress.step, progress.total) for progress in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("family", ["stable diffusion", "stable diffusion xl", "flux"])
def test_generations_with_image_with_mask_and_with_neither_share_their_forwards(family, monkeypatch):
    engine, source = family_engine(family)
    requests = [
        make_image_request(family, image=None, strength=None, seed=1),
        make_image_request(family, "image", seed=2),
        make_image_request(family, "image and mask", seed=3, num_images=2),
    ]
    alone = [draw(family, request) for request in requests]
    rows_per_image = 1 if family == "flux" else 2

    with counting_rows(engine, source) as counts:
        together = draw_at_once(family, requests, monkeypatch=monkeypatch)

    assert max(counts) == 4 * rows_per_image
    assert max(differences(together, alone)) <= ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_reproducible_generations_have_the_same_bits_alone_and_at_once(kind):
    requests = [make_image_request("flux", kind, seed=seed, is_reproducible=True) for seed in range(3)]
    alone = [draw("flux", request) for request in requests]

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda request: draw("flux", request), requests))

    assert differences(together, alone) == [0, 0, 0]


def test_an_image_of_another_size_is_scaled():
    large = Image.fromarray(make_image()).resize((2 * WIDTH, 3 * HEIGHT))

    pixels = draw("stable diffusion", make_image_request("stable diffusion", image=np.asarray(large)))

    assert pixels.shape == (1, HEIGHT, WIDTH, 3)


def test_the_loaded_model_keeps_its_dtype(tmp_path):
    engine = open_engine()
    source = FAMILIES["stable diffusion xl"](tmp_path)
    source = type(source)(slug=source.slug, source=source.source, dtype="bfloat16")
    request = make_image_request("stable diffusion xl", "image and mask", model=source)

    engine.generate(request, on_step=ignore)

    parts = engine._models[source.slug].pipe.components.values()
    assert {part.dtype for part in parts if isinstance(part, torch.nn.Module)} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None, "mask": make_mask(), "strength": None}, "leave out mask"),
        ({"image": None, "mask": None, "strength": 0.5}, "leave out strength"),
        ({"strength": 2.0}, "strength"),
        ({"strength": 0.1, "num_inference_steps": 9}, "No step is left"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(UnsupportedParameter, match=message):
        draw("stable diffusion", make_image_request("stable diffusion", **changes))
