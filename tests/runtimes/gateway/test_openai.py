"""A server with OpenAI's Images API is asked for what a generation wants; its answers are taken for what they are."""

import base64
import threading
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from generation.engines.errors import ModelUnavailable, OutOfMemory, UnsupportedParameter
from generation.engines.types import ModelSource
from generation.runtimes.errors import ServerBusy, ServerFailed, ServerUnavailable
from generation.runtimes.gateway.openai import OpenAIRuntime
from tests.engines.models import SHIPPED, ignore, make_request
from tests.ports import free_port
from tests.runtimes.gateway.openai_server import completed, openai_server, partial, picture

CRIMSON = (220, 20, 60)
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def one_server():
    with openai_server() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.reset()
    return one_server


@pytest.fixture
def runtime(server):
    runtime = OpenAIRuntime(server.address, api_key="a-key")
    yield runtime
    runtime.close()


def parts_of(request) -> dict[str, bytes]:
    """The parts of a form, by name."""
    _, headers, body = request
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }


def test_the_pixels_are_those_of_the_answer(runtime):
    images = runtime.generate(make_request(), on_step=ignore)

    assert images.pixels.shape == (1, 64, 64, 3)
    assert images.pixels.dtype == np.uint8
    assert (images.pixels == CRIMSON).all()


def test_all_that_the_api_has_words_for_is_asked(runtime, server):
    request = make_request(negative_prompt="blue", num_inference_steps=8, guidance_scale=3.5, seed=11)

    runtime.generate(request, on_step=ignore)

    (body,) = server.bodies()
    asked = {"prompt": "red apple", "negative_prompt": "blue", "num_inference_steps": 8, "guidance_scale": 3.5}
    asked |= {"seed": 11, "size": "64x64", "n": 1, "model": SHIPPED.slug, "response_format": "b64_json"}
    assert asked.items() <= body.items()


def test_the_key_goes_along(runtime, server):
    runtime.generate(make_request(), on_step=ignore)

    assert server.requests[0][1]["authorization"] == "Bearer a-key"


def test_each_of_several_pictures_has_the_next_seed(runtime, server):
    images = runtime.generate(make_request(num_images=3, seed=5), on_step=ignore)

    assert images.pixels.shape[0] == 3
    assert [body["seed"] for body in server.bodies()] == [5, 6, 7]


def test_partial_images_are_progress_and_previews(runtime, server):
    server.answers = [[partial(colour="red"), partial(colour="lime"), partial(colour="blue"), completed()]]
    seen = []

    runtime.generate(
        make_request(num_inference_steps=8), on_step=lambda progress: seen.append((progress.step, progress.preview()))
    )

    steps = [step for step, _ in seen]
    assert [step for step, preview in seen if preview is not None] == [2, 4, 6]
    assert steps[-1] == 8
    assert all(step <= later for step, later in pairwise(steps))
    assert (seen[1][1] == (255, 0, 0)).all()


def test_a_server_without_streams_is_asked_without_from_then_on(runtime, server):
    refusal = {"error": {"message": "Unknown parameter: 'stream'.", "param": "stream", "code": "unknown_parameter"}}
    server.answers = [(400, refusal), (200, picture())]

    runtime.generate(make_request(), on_step=ignore)
    runtime.generate(make_request(), on_step=ignore)

    assert ["stream" in body for body in server.bodies()] == [True, False, False]
    assert all("response_format" in body for body in server.bodies())


def test_to_leave_a_generation_closes_the_connection(runtime, server):
    class Cancelled(Exception):
        pass

    def cancel(progress):
        if server.requests:
            raise Cancelled

    server.gate.clear()

    with pytest.raises(Cancelled):
        runtime.generate(make_request(), on_step=cancel)

    assert server.was_left.wait(PATIENCE_SECONDS)


def test_a_redrawn_picture_goes_as_a_file_with_its_mask_and_strength(runtime, server):
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:32] = 255

    runtime.generate(make_request(image=image, mask=mask, strength=0.5), on_step=ignore)

    assert server.requests[0][0] == "/v1/images/edits"
    parts = parts_of(server.requests[0])
    assert parts["strength"] == b"0.5"
    assert parts["stream"] == b"true"
    sent = np.asarray(Image.open(BytesIO(parts["mask"])))
    assert (np.asarray(Image.open(BytesIO(parts["image"]))) == image).all()
    assert (sent[:32, :, 3] == 0).all() and (sent[32:, :, 3] == 255).all()  # transparent is where to paint


def test_references_go_as_several_files(runtime, server):
    pictures = tuple(np.full((64, 32, 3), grey, dtype=np.uint8) for grey in (10, 20))

    runtime.generate(make_request(references=pictures), on_step=ignore)

    assert server.requests[0][2].count(b'name="image[]"') == 2


ERRORS = {
    "a bad request": (400, {"error": {"message": "Too wide.", "code": "invalid"}}, UnsupportedParameter),
    "a bad request, said by FastAPI": (422, {"detail": [{"loc": ["body", "size"]}]}, UnsupportedParameter),
    "no model": (404, {"error": {"message": "None.", "code": "model_not_found"}}, ModelUnavailable),
    "a key that is refused": (401, {"error": {"message": "Who?", "code": "invalid_api_key"}}, ModelUnavailable),
    "too much to do": (429, {"error": {"message": "Later.", "code": "rate_limit"}}, ServerBusy),
    "no engine behind": (503, {"detail": "Diffusion engine not initialized."}, ServerUnavailable),
    "a cancel by somebody else": (409, {"error": {"message": "Cancelled.", "code": "cancelled"}}, ServerFailed),
    "no memory": (500, {"error": {"message": "Too large.", "code": "out_of_memory"}}, OutOfMemory),
    "an unforeseen failure": (500, {"error": {"message": "Oops.", "code": "internal_error"}}, ServerFailed),
    "text": (500, b"Internal Server Error", ServerFailed),
    "no JSON": (200, b"<html>", ServerFailed),
    "no object": (200, [], ServerFailed),
    "no picture": (200, {"data": []}, ServerFailed),
    "a link": (200, {"data": [{"url": "http://elsewhere"}]}, ServerFailed),
    "no Base64": (200, {"data": [{"b64_json": "?"}]}, ServerFailed),
    "no image": (200, {"data": [{"b64_json": base64.b64encode(b"text").decode()}]}, ServerFailed),
    "another size": (200, picture(size=(32, 32)), UnsupportedParameter),
}


@pytest.mark.parametrize("case", ERRORS)
def test_answers_that_are_no_picture(runtime, server, case):
    status, body, error = ERRORS[case]
    server.answers = [(status, body)]

    with pytest.raises(error) as raised:
        runtime.generate(make_request(), on_step=ignore)

    assert type(raised.value) is error


def test_an_error_in_a_stream(runtime, server):
    server.answers = [[partial(), {"error": {"message": "Too large.", "code": "out_of_memory"}}]]

    with pytest.raises(OutOfMemory, match="Too large"):
        runtime.generate(make_request(), on_step=ignore)


def test_a_stream_that_ends_early(runtime, server):
    server.answers = [[partial()]]

    with pytest.raises(ServerUnavailable, match="ended its stream"):
        runtime.generate(make_request(), on_step=ignore)


def test_a_server_that_is_silent_is_given_up(server):
    server.gate.clear()
    runtime = OpenAIRuntime(server.address, silence_seconds=0.2)

    with pytest.raises(ServerUnavailable, match="said nothing"):
        runtime.generate(make_request(), on_step=ignore)

    runtime.close()


def test_a_server_that_is_not_there():
    runtime = OpenAIRuntime(f"http://127.0.0.1:{free_port()}/v1")

    with pytest.raises(ServerUnavailable, match="does not answer"):
        runtime.describe()

    runtime.close()


def test_a_model_is_known_by_its_slug_or_its_source(runtime, server):
    server.models = ["black-forest-labs/FLUX.1-dev"]

    runtime.load(ModelSource(slug="flux", source="black-forest-labs/FLUX.1-dev"))

    assert runtime.loaded == ("flux",)
    with pytest.raises(ModelUnavailable, match="serves black-forest-labs"):
        runtime.load(ModelSource(slug="sdxl", source="elsewhere/sdxl"))


def test_a_server_that_lists_no_models_is_asked_for_the_source(runtime, server):
    server.models = None

    runtime.generate(make_request(), on_step=ignore)

    assert server.bodies()[0]["model"] == SHIPPED.source


@pytest.mark.parametrize("wish", [{"scheduler": "ddim"}, {"is_reproducible": True}])
def test_what_the_api_has_no_word_for_is_refused(runtime, wish):
    with pytest.raises(UnsupportedParameter, match="out"):
        runtime.generate(make_request(**wish), on_step=ignore)


def test_several_threads_may_ask_at_once(runtime, server):
    server.gate.clear()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(runtime.generate(make_request(), on_step=ignore)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    all_arrived = all(server.arrivals.acquire(timeout=PATIENCE_SECONDS) for _ in threads)

    server.gate.set()
    for thread in threads:
        thread.join()

    assert all_arrived
    assert len(results) == 3
