"""Pictures that begin with a picture, over HTTP, on real parts."""

import io

import numpy as np
from PIL import Image

from generation.lifecycle import Status
from tests import pictures
from tests.service.running import Running

SIZE = {"width": 128, "height": 128, "num_inference_steps": 8}


def upload(service: Running, picture: Image.Image) -> dict:
    response = service.client.post("/api/inputs/", files={"file": pictures.encode(picture, "PNG")})
    assert response.status_code == 201, response.text
    return response.json()


def pixels(service: Running, generation: dict) -> np.ndarray:
    assert generation["status"] == Status.SUCCEEDED, generation["error"]
    return np.asarray(Image.open(io.BytesIO(service.image(generation))).convert("RGB"), int)


def test_little_strength_keeps_the_image_and_much_does_not(service):
    apple = service.finish(prompt="a red apple", seed=7, **SIZE)
    image = {"generation": apple["id"], "index": 0}

    little, much = (
        pixels(service, service.finish(prompt="a blue whale", image=image, strength=strength, seed=3, **SIZE))
        for strength in (0.25, 1.0)
    )

    original = pixels(service, apple)
    assert np.abs(little - original).mean() < np.abs(much - original).mean() / 2


def test_only_what_the_mask_shows_is_painted(service):
    apple = service.finish(prompt="a red apple", seed=7, **SIZE)
    mask = upload(service, pictures.halves(size=(128, 128)))
    wishes = {"image": {"generation": apple["id"], "index": 0}, "mask": mask["id"], "strength": 1.0}

    painted = pixels(service, service.finish(prompt="a blue whale", seed=3, **wishes, **SIZE))

    change = np.abs(painted - pixels(service, apple)).mean(axis=(0, 2))
    assert change[:48].mean() < change[80:].mean() / 3


def test_files_sent_along_do_the_same_as_inputs(service):
    picture = pictures.make(size=(128, 128))
    wishes = {"prompt": "a red apple", "strength": 0.5, "seed": 5, "num_inference_steps": 4}
    by_id = service.finish(image=upload(service, picture)["id"], **wishes)

    files = {"image": ("picture.png", pictures.encode(picture, "PNG"), "image/png")}
    response = service.client.post("/api/generations/", data=wishes, files=files)
    sent_along = service.wait(response.json())

    assert response.status_code == 202, response.text
    assert (sent_along["width"], sent_along["height"]) == (128, 128)
    assert sent_along["images"][0]["sha256"] == by_id["images"][0]["sha256"]


def test_a_file_larger_than_a_body_without_files_may_be_is_taken(service):
    noise = Image.effect_noise((1400, 1400), 90)

    assert upload(service, noise)["size_bytes"] > 1024 * 1024


def test_a_form_larger_than_allowed_is_refused(service):
    response = service.client.post("/api/inputs/", files={"file": bytes(33 * 1024 * 1024)})

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_what_is_refused_is_a_problem_detail(service):
    response = service.client.post("/api/inputs/", files={"file": pictures.bomb()})

    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert "too many" in response.json()["detail"]
