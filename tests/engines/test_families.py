"""Tiny models of each family: generations that share forwards are those that run alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.engines.company import (
    HEIGHT,
    ROUNDING,
    WIDTH,
    counting_rows,
    differences,
    draw_alone,
    draw_at_once,
    draw_staggered,
)
from tests.engines.models import FAMILIES, family_engine, ignore, make_request

PROMPTS = ["red apple", "an old harbour in the fog, with seven small boats", "", "a cat", "crown " * 20]
# (scheduler, steps, guidance scale, images), the first of which is the model's own.
DIFFUSION = [("", 6, 4.5, 1), ("heun", 4, 7.0, 2), ("unipc", 7, 1.0, 1), ("dpmpp_2m_karras", 5, 3.0, 1)]
FLOW_MATCHING = [("", 6, 4.5, 1), ("flow_match_euler", 4, 7.0, 2), ("flow_match_unipc", 7, 1.0, 1)]
REQUESTS = {
    "stable diffusion": DIFFUSION,
    "stable diffusion xl": DIFFUSION,
    "stable diffusion 3": FLOW_MATCHING,
    "flux": FLOW_MATCHING,
    "z-image": [*FLOW_MATCHING[:2], ("", 7, 1.0, 1)],  # its pipeline gives sigmas as a list, which UniPC does not take
}


def make_requests(family, **changes):
    _, source = family_engine(family)
    return [
        make_request(
            model=source,
            prompt=prompt,
            seed=seed,
            width=WIDTH,
            height=HEIGHT,
            scheduler=scheduler,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            num_images=num_images,
            **changes,
        )
        for seed, (prompt, (scheduler, steps, guidance_scale, num_images)) in enumerate(
            zip(PROMPTS, REQUESTS[family], strict=False)
        )
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_the_family_may_be_shared(family):
    engine, source = family_engine(family)

    verdict = engine._models[source.slug].verdict

    assert verdict.can_share, verdict.reason


@pytest.mark.parametrize("family", FAMILIES)
def test_the_size_at_which_the_knee_was_measured_is_told(family):
    engine, source = family_engine(family)
    side = 1024 if family in ("flux", "z-image") else 64

    pixels = {facts.slug: facts.pixels for facts in engine.facts()}

    assert pixels[source.slug] == side**2


@pytest.mark.parametrize("family", FAMILIES)
def test_generations_at_once_share_their_forwards_and_are_what_they_are_alone(family, monkeypatch):
    engine, source = family_engine(family)
    requests = make_requests(family)
    alone, rows = draw_alone(family, requests)

    with counting_rows(engine, source) as counts:
        together = draw_at_once(family, requests, monkeypatch=monkeypatch)

    assert max(counts) == sum(rows)
    assert max(differences(together, alone)) <= ROUNDING


@pytest.mark.parametrize("family", FAMILIES)
def test_generations_that_join_others_on_their_way_are_what_they_are_alone(family):
    requests = make_requests(family)
    alone, _ = draw_alone(family, requests)

    staggered = draw_staggered(family, requests)

    assert max(differences(staggered, alone)) <= ROUNDING


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reproducible_generation_has_the_same_bits_alone_and_among_ordinary_ones(family, monkeypatch):
    request = make_requests(family, is_reproducible=True)[0]
    alone, _ = draw_alone(family, [request])

    together = draw_at_once(family, [request, *make_requests(family)], monkeypatch=monkeypatch)

    assert differences(together[:1], alone) == [0]


@pytest.mark.parametrize("family", FAMILIES)
def test_reproducible_generations_have_the_same_bits_alone_and_among_each_other(family):
    engine, _ = family_engine(family)
    # No guidance, one row each: several of them fit into one forward of a fixed size.
    requests = [
        replace(request, guidance_scale=1.0, num_images=1) for request in make_requests(family, is_reproducible=True)
    ]
    alone, _ = draw_alone(family, requests)

    with ThreadPoolExecutor(len(requests)) as threads:
        together = list(threads.map(lambda request: engine.generate(request, on_step=ignore).pixels, requests))

    assert differences(together, alone) == [0] * len(requests)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cancelled_generation_leaves_the_others_alone(family):
    engine, _ = family_engine(family)
    requests = make_requests(family)[:2]
    alone, _ = draw_alone(family, requests[:1])

    def cancel(progress):
        if progress.step == 2:
            raise InterruptedError

    with ThreadPoolExecutor(2) as threads:
        cancelled = threads.submit(engine.generate, requests[1], on_step=cancel)
        finished = threads.submit(engine.generate, requests[0], on_step=ignore)

    assert isinstance(cancelled.exception(), InterruptedError)
    assert max(differences([finished.result().pixels], alone)) <= ROUNDING


def test_captions_of_different_lengths_share_a_forward(monkeypatch):
    engine, source = family_engine("z-image")
    requests = [
        make_request(model=source, prompt=prompt, width=WIDTH, height=HEIGHT, num_inference_steps=4, guidance_scale=0)
        for prompt in ("apple", "crown " * 100)
    ]
    alone, _ = draw_alone("z-image", requests)

    with counting_rows(engine, source) as counts:
        together = draw_at_once("z-image", requests, monkeypatch=monkeypatch)

    assert max(counts) == 2
    assert max(differences(together, alone)) <= ROUNDING
