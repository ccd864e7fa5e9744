"""A gateway's way to a server with OpenAI's API works with a real one: Pictor's own service."""

import numpy as np
import pytest

from generation.engines.errors import ModelUnavailable, OutOfMemory, UnsupportedParameter
from generation.engines.types import ModelSource
from generation.runtimes.gateway.openai import OpenAIRuntime
from tests.engines.models import SHIPPED, ignore, make_request


@pytest.fixture
def runtime(service):
    runtime = OpenAIRuntime(f"{service.address}/openai/v1", api_key=service.key)
    yield runtime
    runtime.close()


def test_it_draws(runtime):
    images = runtime.generate(make_request(), on_step=ignore)

    assert images.pixels.shape == (1, 64, 64, 3)
    assert (images.pixels == 128).all()


def test_the_server_gets_what_the_worker_was_asked_for(runtime, service):
    asked = {"negative_prompt": "blue", "width": 128, "num_inference_steps": 3, "guidance_scale": 2.5}

    runtime.generate(make_request(seed=5, num_images=2, **asked), on_step=ignore)

    requests = service.worker.runtime.requests
    assert [request.seed for request in requests] == [5, 6]
    assert all(asked.items() <= {name: getattr(request, name) for name in asked}.items() for request in requests)


def test_a_picture_is_redrawn(runtime, service):
    image = np.full((64, 64, 3), 40, dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, :32] = 255

    runtime.generate(make_request(image=image, mask=mask, strength=0.5), on_step=ignore)

    (request,) = service.worker.runtime.requests
    assert (request.image == image).all()
    assert (request.mask == mask).all()
    assert request.strength == 0.5


def test_the_servers_errors_are_the_engines(runtime, service):
    def run_out(step):
        raise OutOfMemory("It does not fit.")

    service.worker.runtime.at_step = run_out

    with pytest.raises(OutOfMemory, match="It does not fit"):
        runtime.generate(make_request(), on_step=ignore)


def test_what_the_server_refuses_is_told(runtime):
    with pytest.raises(UnsupportedParameter, match="multiple of 8"):
        runtime.generate(make_request(width=100), on_step=ignore)


def test_a_model_that_the_server_does_not_have(runtime):
    with pytest.raises(ModelUnavailable, match=f"serves {SHIPPED.slug}"):
        runtime.load(ModelSource(slug="other", source="elsewhere/other"))


def test_a_key_that_the_server_refuses(service):
    runtime = OpenAIRuntime(f"{service.address}/openai/v1", api_key="wrong")

    with pytest.raises(ModelUnavailable, match="PICTOR_GATEWAY_API_KEY"):
        runtime.load(SHIPPED)

    runtime.close()
