"""OpenAI's own client, unmodified, against a running service."""

import asyncio
import io
import json
import threading
from base64 import b64decode

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from generation import storage
from generation.engines import encoding
from generation.engines.errors import OutOfMemory
from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.lifecycle import Status
from generation.models import Generation
from tests import factories, pictures

SMALL = {"size": "64x64", "extra_body": {"num_inference_steps": 3}}


@pytest.fixture
def client(service):
    """The client, as its manual has it; it may not ask a proxy."""
    with httpx.Client(trust_env=False) as http:
        yield openai.OpenAI(base_url=f"{service.address}/openai/v1", api_key=service.key, http_client=http)


def picture(image) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(image.b64_json)))


def test_generate_waits_for_the_picture(client):
    response = client.images.generate(prompt="a red apple", model="fluent-emoji-256", **SMALL)

    (image,) = response.data
    assert (picture(image).format, picture(image).size) == ("PNG", (64, 64))
    assert (response.size, response.output_format, response.background) == ("64x64", "png", "opaque")
    assert response.created == int(Generation.objects.get().finished_at.timestamp())


def test_the_id_of_the_generation_is_the_id_of_the_request(client):
    response = client.images.generate(prompt="a red apple", **SMALL)

    generation = Generation.objects.get()
    assert response._request_id == str(generation.pk)
    assert response.generation == str(generation.pk)


def test_all_parameters_arrive(client, service):
    extra = {"seed": 1, "negative_prompt": "blue", "num_inference_steps": 2, "guidance_scale": 3.5, "scheduler": "ddim"}

    response = client.images.generate(
        prompt="a red apple", n=2, size="64x128", output_format="webp", user="me", extra_body=extra
    )

    (request,) = service.worker.runtime.requests
    assert {name: getattr(request, name) for name in extra} == extra
    assert (request.width, request.height, request.num_images) == (64, 128, 2)
    assert [picture(image).format for image in response.data] == ["WEBP", "WEBP"]


@pytest.mark.parametrize(("quality", "steps"), [("low", 10), ("auto", 20), ("high", 30), ("max", 40)])
def test_quality_is_a_number_of_steps(client, service, quality, steps):
    client.images.generate(prompt="a red apple", quality=quality, size="64x64")

    assert service.worker.runtime.requests[0].num_inference_steps == steps


def test_a_url_leads_to_the_picture_without_a_key(client):
    response = client.images.generate(prompt="a red apple", response_format="url", **SMALL)

    fetched = httpx.get(response.data[0].url, trust_env=False)

    assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/png")
    broken = response.data[0].url.replace("/files/", "/files/x")
    assert httpx.get(broken, trust_env=False).status_code == 404


def test_the_client_that_does_not_block_works_too(service):
    async def generate() -> tuple[Image.Image, list[str]]:
        async with httpx.AsyncClient(trust_env=False) as http:
            client = openai.AsyncOpenAI(base_url=f"{service.address}/openai/v1", api_key=service.key, http_client=http)
            response = await client.images.generate(prompt="a red apple", **SMALL)
            stream = await client.images.generate(prompt="a red apple", stream=True, **SMALL)
            return picture(response.data[0]), [event.type async for event in stream]

    image, kinds = asyncio.run(generate())

    assert (image.size, kinds) == ((64, 64), ["image_generation.completed"])


def test_everything_may_be_left_to_the_service(client):
    wishes = {"size": "auto", "quality": "auto", "background": "auto", "moderation": "auto", "n": 1}

    response = client.images.generate(prompt="a red apple", output_format="jpeg", response_format="b64_json", **wishes)

    assert (picture(response.data[0]).format, response.size) == ("JPEG", "256x256")


def test_the_models_are_listed_by_their_slugs(client):
    assert [model.id for model in client.models.list()] == ["fluent-emoji-256"]
    assert client.models.retrieve("fluent-emoji-256").owned_by == "pictor"


@pytest.mark.parametrize(
    ("wishes", "error", "param", "code"),
    [
        ({"model": "gpt-image-1"}, openai.BadRequestError, "model", "model_not_found"),
        ({"extra_body": {"steps": 3}}, openai.BadRequestError, "steps", "unknown_parameter"),
        ({"size": "100x100"}, openai.BadRequestError, "size", "invalid"),
        ({"size": "large"}, openai.BadRequestError, "size", "invalid"),
        ({"n": 11}, openai.BadRequestError, "n", "invalid"),
        ({"background": "transparent"}, openai.BadRequestError, "background", "invalid_choice"),
        ({"output_format": "svg"}, openai.BadRequestError, "output_format", "invalid_choice"),
        ({"prompt": ""}, openai.BadRequestError, "prompt", "blank"),
    ],
)
def test_a_request_that_cannot_be_served_is_an_error_of_the_client(client, wishes, error, param, code):
    with pytest.raises(error) as raised:
        client.images.generate(**{"prompt": "a red apple", **wishes})

    assert (raised.value.param, raised.value.code, raised.value.type) == (param, code, "invalid_request_error")
    assert not Generation.objects.exists()


def test_a_wrong_key_is_an_error_of_authentication(client):
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key="pictor_wrong").images.generate(prompt="a red apple")

    assert raised.value.code == "invalid_api_key"


def test_a_path_that_is_not_there_is_an_error_in_the_same_shape(client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="x", messages=[])

    assert raised.value.body["code"] == "not_found"


def test_a_generation_that_fails_is_told_and_not_tried_again(client, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail

    with pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(prompt="a red apple", **SMALL)

    assert (raised.value.code, "too large" in raised.value.message) == ("out_of_memory", True)
    assert Generation.objects.count() == 1


def test_a_picture_that_the_storage_does_not_give_is_told_and_not_made_again(client, monkeypatch):
    def refuse(name: str) -> bytes:
        raise OSError("away")

    monkeypatch.setattr(storage, "read", refuse)

    with pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(prompt="a red apple", **SMALL)

    assert (raised.value.status_code, Generation.objects.count()) == (503, 1)


def test_a_cancel_in_our_own_api_ends_the_wait(client, service):
    service.hold()
    waiting = threading.Thread(target=cancel_when_there, args=(service,))
    waiting.start()

    with pytest.raises(openai.ConflictError) as raised:
        client.images.generate(prompt="a red apple", **SMALL)

    waiting.join()
    assert raised.value.code == Status.CANCELLED


def cancel_when_there(service) -> None:
    with httpx.Client(
        base_url=service.address, headers={"Authorization": f"Bearer {service.key}"}, trust_env=False
    ) as http:
        while not (found := http.get("/api/generations/").json()["results"]):
            pass
        http.post(found[0]["links"]["cancel"]).raise_for_status()


def test_two_equal_requests_make_two_pictures(client):
    for _ in range(2):
        client.images.generate(prompt="a red apple", **SMALL)

    assert Generation.objects.count() == 2


def test_an_idempotency_key_works_here_too(client):
    for _ in range(2):
        client.images.generate(prompt="a red apple", extra_headers={"Idempotency-Key": "1"}, **SMALL)

    assert Generation.objects.count() == 1


def test_edit_redraws_one_image(client, service):
    image = pictures.encode(pictures.make(size=(64, 64)), "PNG")

    response = client.images.edit(image=("a.png", image), prompt="a pear", extra_body={"strength": 0.5})

    (request,) = service.worker.runtime.requests
    assert (request.image.shape, request.strength) == ((64, 64, 3), 0.5)
    assert picture(response.data[0]).size == (64, 64)


def test_a_mask_is_painted_where_it_is_transparent(client, service):
    mask = pictures.make("RGBA", size=(64, 64), colour=(0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 0, 64, 64))

    client.images.edit(
        image=("a.png", pictures.png(size=(64, 64))), mask=("m.png", pictures.encode(mask, "PNG")), prompt="a pear"
    )

    (request,) = service.worker.runtime.requests
    assert (request.mask[0, 0], request.mask[0, 63]) == (0, 255)


def test_several_images_are_for_models_that_look_at_them(client):
    files = [("a.png", pictures.png()), ("b.png", pictures.png())]

    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(image=files, prompt="a pear")

    assert raised.value.param == "image"
    assert "does not take it" in raised.value.message


def test_several_images_reach_a_model_that_looks_at_them_in_their_order(client, service, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "QwenImageEditPlusPipeline"}))
    factories.make_model(slug="editor", source=str(tmp_path))
    files = [(f"{colour}.png", pictures.png(colour=colour)) for colour in ("crimson", "navy")]

    client.images.edit(image=files, prompt="a pear", model="editor", size="64x64")

    (request,) = service.worker.runtime.requests
    assert [tuple(reference[0, 0]) for reference in request.references] == [(220, 20, 60), (0, 0, 128)]


def test_an_image_that_is_none_is_refused(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(image=("a.png", pictures.bomb()), prompt="a pear")

    assert raised.value.param == "image"


def publish_previews(step: int) -> None:
    """What a worker with a real model publishes at each step."""
    generation = Generation.objects.get()
    pixels = np.full((8, 8, 3), 200, np.uint8)
    data = {"step": step, "total": generation.total_steps}
    publisher.publish(
        Event(
            str(generation.owner_id),
            Kind.PREVIEW,
            str(generation.pk),
            data,
            draw=lambda: encoding.preview(pixels),
        )
    )
    publisher.flush(timeout_seconds=5)
    threading.Event().wait(0.25)  # a preview takes the place of one that was not sent yet


@pytest.fixture
def with_previews(service, monkeypatch):
    """A worker that takes time for its previews, and begins once somebody listens."""
    monkeypatch.setattr("generation.events.publisher.LOOK_FOR_LISTENERS_SECONDS", 0.0)
    service.worker.runtime.at_step = publish_previews


def test_a_stream_has_partial_images_and_then_the_picture(client, with_previews):
    events = list(client.images.generate(prompt="a red apple", stream=True, partial_images=2, **SMALL))

    partial = [event for event in events if event.type == "image_generation.partial_image"]
    completed = [event for event in events if event.type == "image_generation.completed"]
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert 1 <= len(partial) <= 2
    assert {picture(event).format for event in partial} == {"PNG"}
    assert picture(completed[0]).size == (64, 64)
    assert events[-1] is completed[0]


def test_a_stream_of_several_images_has_each_of_them(client):
    events = list(client.images.generate(prompt="a red apple", stream=True, n=2, **SMALL))

    assert [event.type for event in events] == ["image_generation.completed"] * 2


def test_the_stream_of_an_edit_has_names_of_its_own(client):
    events = list(client.images.edit(image=("a.png", pictures.png(size=(64, 64))), prompt="a pear", stream=True))

    assert [event.type for event in events] == ["image_edit.completed"]


def test_a_stream_of_what_fails_ends_as_an_error_of_the_client(client, service):
    def fail(step: int) -> None:
        raise OutOfMemory("The picture is too large for this device.")

    service.worker.runtime.at_step = fail

    with pytest.raises(openai.APIError, match="too large"):
        list(client.images.generate(prompt="a red apple", stream=True, **SMALL))


def test_a_stream_that_is_refused_is_refused_before_it_begins(client):
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="a red apple", stream=True, size="1x1")


def test_who_hangs_up_leaves_the_generation_going_on(client, service):
    service.hold()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3, max_retries=0).images.generate(prompt="a red apple", **SMALL)

    service.let_go()

    while (generation := Generation.objects.get()).status != Status.SUCCEEDED:
        pass
    assert generation.images.count() == 1


def test_it_can_be_watched_in_our_own_api(client, service):
    response = client.images.generate(prompt="a red apple", **SMALL)

    shown = httpx.get(
        f"{service.address}/api/generations/{response.generation}/",
        headers={"Authorization": f"Bearer {service.key}"},
        trust_env=False,
    )

    assert shown.json()["prompt"] == "a red apple"
    assert shown.json()["model"] == factories.SHIPPED
