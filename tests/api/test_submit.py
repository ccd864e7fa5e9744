"""POST /api/generations/"""

import pytest
from django.urls import reverse

from generation import parameters
from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"


def post(client, **body):
    return client.post(URL, body, format="json")


def pointers(response) -> list[str]:
    return [error["pointer"] for error in response.json()["errors"]]


def test_a_prompt_alone_is_accepted(client_of, user, model):
    response = post(client_of(user), prompt="a red apple")

    data = response.json()
    generation = Generation.objects.get(pk=data["id"])
    assert response.status_code == 202
    assert response["Location"] == data["links"]["self"]
    assert (data["status"], data["position"], data["seed"]) == ("queued", 1, generation.seed)
    assert data["progress"] == {"step": 0, "total": model.default_num_inference_steps, "fraction": 0.0}
    assert generation.owner == user


def test_everything_that_can_be_asked_for_is_stored(client_of, user, model):
    asked = {
        "model": model.slug,
        "prompt": "a blue whale",
        "negative_prompt": "fish",
        "width": 128,
        "height": 256,
        "num_inference_steps": 12,
        "guidance_scale": 3.5,
        "seed": 4294967294,
        "num_images": 2,
        "scheduler": "ddim",
        "format": "webp",
        "priority": -1,
    }

    data = post(client_of(user), **asked).json()

    assert {name: data[name] for name in asked} == asked
    assert len(data["links"]["images"]) == 2


def test_anonymous_is_asked_who_they_are(anonymous, model):
    response = post(anonymous, prompt="a red apple")

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert not Generation.objects.exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"prompt": "x", "model": "no-such-model"}, "/model"),
        ({"prompt": ""}, "/prompt"),
        ({}, "/prompt"),
        ({"prompt": "x" * 2001}, "/prompt"),
        ({"prompt": "x", "width": 100}, "/width"),
        ({"prompt": "x", "width": 4096}, "/width"),
        ({"prompt": "x", "num_inference_steps": -1}, "/num_inference_steps"),
        ({"prompt": "x", "seed": -1}, "/seed"),
        ({"prompt": "x", "seed": 2**32}, "/seed"),
        ({"prompt": "x", "seed": 2**70}, "/seed"),
        ({"prompt": "x", "scheduler": "magic"}, "/scheduler"),
        ({"prompt": "x", "steps": 20}, "/steps"),
        ({"prompt": "x", "width": "wide"}, "/width"),
        ({"prompt": ["x"]}, "/prompt"),
        ({"prompt": "x", "num_images": 99}, "/num_images"),
        ({"prompt": "x", "guidance_scale": 1e300}, "/guidance_scale"),
        ({"prompt": "x", "format": "bmp"}, "/format"),
        ({"prompt": "x", "priority": 7}, "/priority"),
        ({"prompt": "x", "priority": 1}, "/priority"),
        ({"prompt": "a\x00b"}, "/prompt"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(client_of, user, model, body, pointer):
    response = post(client_of(user), **body)

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert pointers(response) == [pointer]
    assert not Generation.objects.exists()


@pytest.mark.parametrize("body", ["{not json", "[1, 2]", '"text"', "", '{"prompt": NaN}', "\xff\xfe"])
def test_a_body_that_is_no_json_object_is_refused(client_of, user, model, body):
    response = client_of(user).post(URL, body.encode("latin-1"), content_type="application/json")

    assert response.status_code == 400
    assert response.json()["title"] == "Bad Request"


def test_a_content_type_that_is_not_read_is_refused(client_of, user, model):
    response = client_of(user).post(URL, b"a red apple", content_type="text/plain")

    assert response.status_code == 415


def test_a_form_works_like_json_and_blank_fields_mean_defaults(client_of, user, model):
    form = {"prompt": "a red apple", "width": "", "seed": "", "scheduler": "", "model": ""}

    response = client_of(user).post(URL, form, format="multipart")

    assert response.status_code == 202
    assert response.json()["width"] == model.default_width


def test_a_session_needs_the_csrf_token(user, model):
    from rest_framework.test import APIClient

    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)

    assert post(client, prompt="a red apple").status_code == 403


def test_the_position_counts_those_ahead(client_of, user, stranger, staff, model):
    factories.make_generation(owner=stranger)
    factories.make_generation(owner=staff, priority=1)

    assert post(client_of(user), prompt="a red apple").json()["position"] == 3


def test_a_submit_survives_a_broker_that_is_down(
    client_of, user, model, dead_broker, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        response = post(client_of(user), prompt="a red apple")

    generation = Generation.objects.get(pk=response.json()["id"])
    assert response.status_code == 202
    assert (generation.status, generation.dispatched_at) == (Status.QUEUED, None)


def test_the_list_page_is_where_one_posts(client_of, user):
    assert reverse("generation-list") == URL


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize(
    "body",
    [
        r'{"prompt": "\ud800"}',
        r'{"prompt": "a", "scheduler": "\ud800"}',
        r'{"prompt": "a", "\ud800": 1}',
        "[" * 100_000,
    ],
    ids=["prompt", "scheduler", "name", "brackets"],
)
def test_a_body_that_could_not_be_sent_back_is_refused(client_of, user, model, body, accept):
    response = client_of(user).post(URL, body, content_type="application/json", headers={"Accept": accept})

    assert response.status_code == 400
    assert not Generation.objects.exists()


def test_surrogates_are_refused_in_forms_too(client_of, user, model):
    form = b'--x\r\nContent-Disposition: form-data; name="scheduler"\r\n\r\n\\ud800\r\n--x--\r\n'

    response = client_of(user).post(
        URL, form, content_type="multipart/form-data; boundary=x; charset=raw_unicode_escape"
    )

    assert (response.status_code, response.json()["code"]) == (400, "parse_error")


def test_characters_beyond_the_basic_plane_are_fine(client_of, user, model):
    response = client_of(user).post(URL, r'{"prompt": "\ud83d\ude00"}', content_type="application/json")

    assert response.json()["prompt"] == "\N{GRINNING FACE}"


def test_a_complaint_of_the_domain_names_the_member_of_the_api(client_of, user, model, monkeypatch):
    monkeypatch.setattr(parameters, "IMAGE_FORMATS", ("png",))

    assert pointers(post(client_of(user), prompt="a red apple", format="webp")) == ["/format"]
