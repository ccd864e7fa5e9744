"""Pipelines unlike the others work all the same, if need be unbatched: with progress, with cancel, in turns."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from generation.engines.errors import UnsupportedParameter
from tests.engines.models import ignore, make_request, open_engine
from tests.engines.unusual_models import save_tiny_deepfloyd, save_tiny_kandinsky, save_tiny_pixart

UNUSUAL = {"kandinsky": save_tiny_kandinsky, "deepfloyd": save_tiny_deepfloyd, "pixart": save_tiny_pixart}
SHARED = {"tiny-deepfloyd", "tiny-pixart"}


@pytest.fixture(scope="module", params=UNUSUAL)
def unusual(request, tmp_path_factory):
    """An engine with the model, and a request for a picture of it."""
    engine = open_engine()
    source = UNUSUAL[request.param](tmp_path_factory.mktemp("model"))
    engine.load(source)
    yield engine, make_request(model=source, width=32, height=32, num_inference_steps=3)
    engine.close()


def test_it_is_shared_if_its_denoiser_can_be_reached(unusual):
    engine, request = unusual

    verdict = engine._models[request.model.slug].verdict

    assert verdict.can_share == (request.model.slug in SHARED)
    assert verdict.can_share or "never asked" in verdict.reason


def test_it_draws_and_tells_of_each_step(unusual):
    engine, request = unusual
    seen = []

    pixels = engine.generate(request, on_step=seen.append).pixels

    assert (pixels.dtype, pixels.ndim, pixels.shape[-1]) == (np.uint8, 4, 3)
    assert [(progress.step, progress.total) for progress in seen] == [(1, 3), (2, 3), (3, 3)]


def test_it_can_be_cancelled_and_works_on(unusual):
    engine, request = unusual
    before = engine.generate(request, on_step=ignore).pixels

    def cancel(progress):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.generate(request, on_step=cancel)

    assert np.array_equal(engine.generate(request, on_step=ignore).pixels, before)


def test_several_at_once_get_their_own_pictures(unusual):
    engine, request = unusual
    requests = [replace(request, seed=seed) for seed in range(3)]
    alone = [engine.generate(each, on_step=ignore).pixels for each in requests]

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda each: engine.generate(each, on_step=ignore).pixels, requests))

    assert max(np.abs(one.astype(int) - other).max() for one, other in zip(together, alone, strict=True)) <= 2


def test_who_waits_for_a_model_that_is_not_shared_can_be_cancelled(unusual, monkeypatch):
    engine, request = unusual
    model = engine._models[request.model.slug]
    monkeypatch.setattr(model, "verdict", replace(model.verdict, can_share=False))

    def cancel(progress):
        assert progress.step == 0
        raise InterruptedError

    with model.turn(while_waiting=ignore), pytest.raises(InterruptedError):
        engine.generate(request, on_step=cancel)


def test_an_image_is_refused_where_the_family_cannot_begin_with_one(tmp_path):
    source = save_tiny_pixart(tmp_path)
    image = np.zeros((32, 32, 3), np.uint8)

    with pytest.raises(UnsupportedParameter, match="no image-to-image pipeline; leave out image"):
        open_engine().generate(make_request(model=source, image=image), on_step=ignore)
