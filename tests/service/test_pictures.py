"""A prompt becomes a picture, over HTTP, on real parts."""

import io
import json

import httpx
from PIL import Image

from generation.lifecycle import Status
from tests.service.running import LONG


def test_a_prompt_becomes_a_picture(service):
    generation = service.finish(prompt="a red apple", num_inference_steps=12, width=256, height=256, seed=7)

    picture = Image.open(io.BytesIO(service.image(generation)))
    red, green, blue = picture.resize((1, 1), box=(112, 112, 144, 144)).getpixel((0, 0))
    assert generation["status"] == Status.SUCCEEDED
    assert (picture.format, picture.size) == ("PNG", (256, 256))
    assert red > 120 > max(green, blue), "the middle of a red apple is red"


def test_the_file_says_how_to_make_it_again(service):
    generation = service.finish(prompt="зелёная лягушка 🐸", seed=9, negative_prompt="blue")

    text = Image.open(io.BytesIO(service.image(generation))).text
    assert (text["prompt"], text["negative_prompt"], text["seed"]) == ("зелёная лягушка 🐸", "blue", "9")
    assert text["model"] == "fluent-emoji-256"
    assert json.loads(text["parameters"])["num_inference_steps"] == 3


def test_the_same_seed_gives_the_same_bytes(service):
    first, second = service.finish(seed=11), service.finish(seed=11)

    assert service.image(first) == service.image(second)


def test_a_drawn_seed_makes_the_picture_again(service):
    first = service.finish()
    second = service.finish(seed=first["seed"])

    assert service.image(first) == service.image(second)


def test_several_images_are_drawn_from_one_seed_after_another(service):
    generation = service.finish(seed=20, num_images=2, format="webp")

    pictures = [Image.open(io.BytesIO(service.image(generation, index))) for index in (0, 1)]
    assert [image["seed"] for image in generation["images"]] == [20, 21]
    assert [picture.format for picture in pictures] == ["WEBP", "WEBP"]


def test_every_scheduler_of_the_model_draws(service):
    schedulers = service.client.get("/api/models/fluent-emoji-256/").json()["schedulers"]

    generations = [service.submit(scheduler=name, num_inference_steps=2) for name in schedulers]

    ends = {name: service.wait(generation) for name, generation in zip(schedulers, generations, strict=True)}
    assert {name: end["error"] for name, end in ends.items() if end["error"]} == {}


def test_two_devices_share_the_queue_of_a_model(service):
    generations = [service.submit(**LONG) for _ in range(2)]
    for generation in generations:
        service.wait(generation, until=lambda now: now["status"] != Status.QUEUED)

    workers = {attempt["worker"].partition("@")[0] for attempt in service.attempts(*generations)}
    for generation in generations:
        service.client.post(generation["links"]["cancel"])
        service.wait(generation)
    assert workers == {"cpu0", "cpu1"}


def test_a_pinned_generation_runs_on_its_device(service):
    code = (
        "str(__import__('generation.operations').operations.submit("
        "__import__('generation.parameters').parameters.Wishes(prompt='a rocket', num_inference_steps=2),"
        "owner=__import__('django.contrib.auth.models').contrib.auth.models.User.objects.get(username='admin'),"
        "pinned_to=Device.objects.get(label='cpu1')).pk)"
    )
    generation_id = service.ask(code)
    generation = service.wait({"links": {"self": f"/api/generations/{generation_id}/"}})

    assert generation["status"] == Status.SUCCEEDED
    assert service.attempts(generation)[0]["worker"].startswith("cpu1@")


def test_progress_grows_step_by_step(service):
    generation = service.submit(num_inference_steps=20, width=256, height=256)

    seen = service.wait(generation, until=lambda now: now["progress"]["step"] > 0)

    assert seen["status"] == Status.RUNNING
    assert 0 < seen["progress"]["fraction"] < 1
    assert service.wait(generation)["progress"] == {"step": 20, "total": 20, "fraction": 1.0}


def test_a_body_that_is_too_large_is_refused(service):
    response = service.client.post("/api/generations/", content=b"x" * (2 * 1024 * 1024))

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_large_body_of_unknown_length_is_refused(service):
    response = service.client.post("/api/generations/", content=(b"x" * 65536 for _ in range(64)))

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_flower_shows_the_tasks_to_who_knows_the_password(service):
    generation = service.finish()
    url = f"http://127.0.0.1:{service.environment['PICTOR_FLOWER_PORT']}"
    folder = service.log.parent / "data/credentials"
    password = (folder / "flower_password").read_text().strip()

    stranger = httpx.get(f"{url}/workers")
    workers = httpx.get(f"{url}/workers", auth=("admin", password))
    task = httpx.get(f"{url}/task/{generation['id']}:1", auth=("admin", password))

    assert stranger.status_code == 401
    assert "cpu0@" in workers.text
    assert task.status_code == 200


def test_the_styles_of_the_pages_are_served(service):
    assert service.client.get("/static/admin/css/base.css").status_code == 200
    assert service.client.get("/static/rest_framework/css/default.css").status_code == 200


def test_no_prompt_reaches_the_log(service):
    service.finish(prompt="a canary with a secret")

    assert "canary" not in service.log.read_text()
