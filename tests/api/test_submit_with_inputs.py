"""POST /api/generations/ with pictures to begin with."""

import json

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from generation import inputs, operations
from generation.lifecycle import Status
from generation.models import Generation, Input
from tests import factories, pictures

URL = "/api/generations/"

pytestmark = pytest.mark.django_db


def post(client, **body):
    return client.post(URL, {"prompt": "a red apple"} | body, format="json")


def post_form(client, **form):
    return client.post(URL, {"prompt": "a red apple"} | form, format="multipart")


def file(data: bytes, name: str = "picture.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def pointers(response) -> list[str]:
    assert response.status_code == 400, response.content
    return [error["pointer"] for error in response.json()["errors"]]


def earlier_image(owner):
    generation = factories.make_generation(owner=owner, status=Status.SUCCEEDED)
    factories.make_image(generation=generation)
    return generation


def stored_files() -> list[str]:
    return default_storage.listdir("inputs")[1] if default_storage.exists("inputs") else []


def test_an_input_by_its_id_is_what_the_generation_begins_with(client_of, user, model):
    stored = factories.make_input(owner=user)

    data = post(client_of(user), image=str(stored.pk), strength=0.5).json()

    assert (data["image"], data["mask"], data["reference_images"]) == (str(stored.pk), None, [])
    assert data["strength"] == 0.5
    assert Generation.objects.get(pk=data["id"]).inputs.get().input == stored


def test_an_earlier_result_is_named_by_generation_and_index(client_of, user, model):
    earlier = earlier_image(user)

    data = post(client_of(user), image={"generation": str(earlier.pk), "index": 0}).json()

    assert data["image"] == {"generation": str(earlier.pk), "index": 0}


def test_what_is_shown_can_be_asked_for_again(client_of, user, model):
    earlier, stored = earlier_image(user), factories.make_input(owner=user)
    first = post(client_of(user), image={"generation": str(earlier.pk)}, mask=str(stored.pk), strength=0.9).json()

    again = post(client_of(user), **{name: first[name] for name in ("image", "mask", "strength")}).json()

    assert [again[name] for name in ("image", "mask", "strength")] == [
        first[name] for name in ("image", "mask", "strength")
    ]


def test_files_can_be_sent_along(client_of, user, model):
    image, mask = pictures.png(size=(64, 64)), pictures.encode(pictures.halves(), "PNG")

    response = post_form(client_of(user), image=file(image), mask=file(mask), strength="0.8")

    data = response.json()
    inputs = {str(stored.pk) for stored in Input.objects.usable()}
    assert response.status_code == 202
    assert {data["image"], data["mask"]} == inputs


def test_a_form_can_name_an_input_or_an_earlier_result_too(client_of, user, model):
    earlier, stored = earlier_image(user), factories.make_input(owner=user)

    reference = json.dumps({"generation": str(earlier.pk), "index": 0})
    data = post_form(client_of(user), image=reference, mask=str(stored.pk)).json()

    assert (data["image"], data["mask"]) == ({"generation": str(earlier.pk), "index": 0}, str(stored.pk))


def test_the_size_is_that_of_the_image_unless_asked_for(client_of, user, model):
    stored = factories.make_input(owner=user, size=(200, 100))

    as_it_is = post(client_of(user), image=str(stored.pk)).json()
    asked_for = post(client_of(user), image=str(stored.pk), width=128, height=128).json()

    assert (as_it_is["width"], as_it_is["height"]) == (200, 96)
    assert (asked_for["width"], asked_for["height"]) == (128, 128)


def test_a_large_image_is_scaled_down_to_what_the_model_draws(client_of, user, model):
    stored = factories.make_input(owner=user, size=(2048, 1024))

    data = post(client_of(user), image=str(stored.pk)).json()

    assert (data["width"], data["height"]) == (512, 256)


def test_a_mask_of_another_size_is_refused_and_nothing_is_stored(client_of, user, model):
    mask = pictures.encode(pictures.halves(size=(32, 32)), "PNG")
    before = stored_files()

    response = post_form(client_of(user), image=file(pictures.png(size=(64, 64))), mask=file(mask))

    assert pointers(response) == ["/mask"]
    assert "32 x 32" in response.json()["detail"]
    assert (Input.objects.count(), stored_files()) == (0, before)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"strength": 0.5}, "/strength"),
        ({"mask": "input"}, "/mask"),
        ({"image": "input", "strength": 0}, "/strength"),
        ({"image": "input", "strength": 1.1}, "/strength"),
        ({"image": "input", "strength": 0.1, "num_inference_steps": 5}, "/strength"),
        ({"image": "https://example.org/picture.png"}, "/image"),
        ({"image": 7}, "/image"),
        ({"image": {"generation": "x"}}, "/image"),
        ({"image": {"index": 0}}, "/image"),
        ({"image": {"generation": "01a2152e-a81f-7033-8e10-44fe8e7de4a7", "index": -1}}, "/image"),
        ({"image": {"generation": "01a2152e-a81f-7033-8e10-44fe8e7de4a7", "index": True}}, "/image"),
        ({"image": {"generation": "01a2152e-a81f-7033-8e10-44fe8e7de4a7", "index": 0}}, "/image"),
        ({"image": "01a2152e-a81f-7033-8e10-44fe8e7de4a7"}, "/image"),
        ({"reference_images": ["input"]}, "/reference_images"),
        ({"reference_images": "input"}, "/reference_images"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(client_of, user, model, body, pointer):
    stored = factories.make_input(owner=user)
    text = json.dumps(body).replace('"input"', f'"{stored.pk}"')

    response = post(client_of(user), **json.loads(text))

    assert pointers(response)[0].startswith(pointer)
    assert not Generation.objects.filter(prompt="a red apple").exists()


@pytest.mark.parametrize("make", ["input", "earlier result"])
def test_what_belongs_to_somebody_else_is_not_there(client_of, user, stranger, model, make):
    image = (
        str(factories.make_input(owner=stranger).pk)
        if make == "input"
        else {"generation": str(earlier_image(stranger).pk), "index": 0}
    )

    response = post(client_of(user), image=image)

    assert pointers(response) == ["/image"]
    assert "There is no" in response.json()["detail"]


def test_a_refused_file_is_named_and_nothing_is_stored(client_of, user, model):
    before = stored_files()

    response = post_form(client_of(user), image=file(pictures.bomb()))

    assert pointers(response) == ["/image"]
    assert (Input.objects.count(), Generation.objects.count(), stored_files()) == (0, 0, before)


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "1"}])
def test_of_a_request_that_is_refused_no_picture_stays(client_of, user, model, settings, headers):
    settings.MAX_WAITING_PER_USER = 1
    factories.make_generation(owner=user)
    before = stored_files()

    form = {"prompt": "a red apple", "image": file(pictures.png())}
    response = client_of(user).post(URL, form, format="multipart", headers=headers)
    inputs.remove_expired(most=10)

    assert response.status_code == 429
    assert (Input.objects.count(), stored_files()) == (0, before)


def test_a_picture_that_was_uploaded_before_stays_though_a_request_with_it_is_refused(client_of, user, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    factories.make_generation(owner=user)
    stored = factories.make_input(owner=user)

    response = post(client_of(user), image=str(stored.pk))

    assert response.status_code == 429
    assert Input.objects.usable().filter(pk=stored.pk).exists()


def test_no_file_is_decoded_for_a_request_that_is_refused_anyway(client_of, user, model, monkeypatch):
    monkeypatch.setattr("generation.uploads.decode", None)

    assert pointers(post_form(client_of(user), image=file(pictures.png()), width="9999")) == ["/width"]


@pytest.fixture
def model_of_class(tmp_path, db):
    """`model_of_class(name)` is a model whose folder names that pipeline."""

    def make(name: str):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
        return factories.make_model(slug="other", source=str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("pipeline", "field"),
    [
        ("SanaPipeline", "image"),
        ("Flux2KleinPipeline", "mask"),
        ("StableDiffusionPipeline", "reference_images"),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused_at_once(client_of, user, model_of_class, pipeline, field):
    other, stored = model_of_class(pipeline), str(factories.make_input(owner=user).pk)
    body = {"image": {"image": stored}, "mask": {"image": stored, "mask": stored}}.get(
        field, {"reference_images": [stored]}
    )

    response = post(client_of(user), model=other.slug, **body)

    assert pointers(response) == [f"/{field}"]
    assert "does not take it" in response.json()["detail"]


def test_reference_images_keep_their_order(client_of, user, model_of_class):
    other = model_of_class("QwenImageEditPlusPipeline")
    stored = [str(factories.make_input(owner=user).pk) for _ in range(3)]

    data = post(client_of(user), model=other.slug, reference_images=stored[::-1]).json()

    assert data["reference_images"] == stored[::-1]


def test_several_reference_images_can_be_sent_along(client_of, user, model_of_class):
    other = model_of_class("Flux2Pipeline")

    data = post_form(
        client_of(user), model=other.slug, reference_images=[file(pictures.png()), file(pictures.png(colour="navy"))]
    ).json()

    assert len(data["reference_images"]) == 2


def test_of_a_model_that_is_not_here_nothing_is_known_so_it_is_tried(client_of, user, db):
    factories.make_model(slug="hub", source="somebody/something", is_default=True)
    stored = factories.make_input(owner=user)

    assert post(client_of(user), image=str(stored.pk), reference_images=[]).status_code == 202


def test_the_models_say_what_they_take(client_of, user, model):
    shown = client_of(user).get(f"/api/models/{model.slug}/").json()

    assert shown["takes"] == {"image": True, "mask": True, "reference_images": False}


def test_without_pictures_a_generation_says_so(client_of, user, model):
    data = post(client_of(user)).json()

    assert [data[name] for name in ("image", "mask", "reference_images", "strength")] == [None, None, [], None]


def test_the_form_of_the_page_offers_files(client_of, user, model):
    html = client_of(user).get(URL, headers={"Accept": "text/html"}).content.decode()

    assert '<input name="reference_images" type="file" multiple>' in html
    assert '<input name="image"  type="file"' in html


def test_the_list_costs_the_same_number_of_queries_whatever_its_length(
    client_of, user, model, django_assert_max_num_queries
):
    client = client_of(user)
    for _ in range(5):
        post(client, image=str(factories.make_input(owner=user).pk))

    with django_assert_max_num_queries(6):
        client.get(URL)


def test_a_retry_begins_with_the_same_pictures(client_of, user, model):
    earlier, stored = earlier_image(user), factories.make_input(owner=user)
    first = post(client_of(user), image={"generation": str(earlier.pk)}, mask=str(stored.pk), strength=0.7).json()
    operations.cancel(Generation.objects.get(pk=first["id"]))

    again = client_of(user).post(first["links"]["retry"]).json()

    assert [again[name] for name in ("image", "mask", "strength", "width")] == [
        first[name] for name in ("image", "mask", "strength", "width")
    ]


def test_a_retry_whose_picture_is_gone_is_refused_with_a_sentence(client_of, user, model):
    earlier = earlier_image(user)
    first = post(client_of(user), image={"generation": str(earlier.pk)}).json()
    operations.cancel(Generation.objects.get(pk=first["id"]))
    operations.delete(earlier)

    response = client_of(user).post(first["links"]["retry"])

    assert pointers(response) == ["/image"]


@pytest.mark.parametrize(("colour", "status_code"), [("crimson", 202), ("navy", 422)])
def test_with_an_idempotency_key_the_same_files_are_taken_in_once(client_of, user, model, colour, status_code):
    def send(colour: str):
        form = {"prompt": "a red apple", "image": file(pictures.png(colour=colour))}
        return client_of(user).post(URL, form, format="multipart", headers={"Idempotency-Key": "1"})

    first = send("crimson")

    again = send(colour)

    assert (first.status_code, again.status_code) == (202, status_code)
    assert (Input.objects.count(), Generation.objects.count()) == (1, 1)


def test_the_requests_of_a_batch_may_begin_with_pictures(client_of, user, model):
    stored = str(factories.make_input(owner=user).pk)
    requests = [{"prompt": "a red apple", "image": stored}, {"prompt": "a blue whale"}]

    response = client_of(user).post("/api/batches/", {"requests": requests}, format="json")

    assert response.status_code == 202, response.content
    assert Input.objects.get().uses.count() == 1
