"""/api/inputs/: upload, look, and what is refused."""

import io
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image

from generation.models import Input
from tests import factories, pictures

URL = "/api/inputs/"

pytestmark = pytest.mark.django_db


def post(client, data: bytes, **headers):
    return client.post(URL, {"file": SimpleUploadedFile("picture.png", data)}, format="multipart", **headers)


def stored_files() -> list[str]:
    return default_storage.listdir("inputs")[1] if default_storage.exists("inputs") else []


def test_an_upload_answers_an_id_and_where_to_look(client_of, user):
    response = post(client_of(user), pictures.png(size=(64, 48)))

    data = response.json()
    assert response.status_code == 201
    assert response["Location"] == data["links"]["self"]
    assert (data["width"], data["height"], data["content_type"]) == (64, 48, "image/png")
    assert Input.objects.get(pk=data["id"]).owner == user


def test_the_owner_can_look_at_it(client_of, user):
    client = client_of(user)
    data = post(client, pictures.png()).json()

    assert client.get(data["links"]["self"]).json() == data
    assert client.get(URL).json()["results"] == [data]


def test_the_file_is_served_as_what_was_decoded(client_of, user):
    client = client_of(user)
    data = post(client, pictures.encode(pictures.make(), "WEBP")).json()

    response = client.get(data["links"]["file"])

    assert (response["Content-Type"], response["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert len(response.content) == data["size_bytes"]
    assert Image.open(io.BytesIO(response.content)).size == (64, 48)


def test_nobody_can_guess_where_the_file_lies(client_of, user):
    data = post(client_of(user), pictures.png()).json()

    name = Input.objects.get(pk=data["id"]).file.name

    assert data["id"].replace("-", "") not in name
    assert default_storage.exists(name)


@pytest.mark.parametrize("link", ["self", "file"])
def test_others_are_told_that_there_is_none(client_of, user, stranger, link):
    data = post(client_of(user), pictures.png()).json()

    assert client_of(stranger).get(data["links"][link]).status_code == 404
    assert client_of(stranger).get(URL).json()["results"] == []


@pytest.mark.parametrize("link", ["self", "file"])
def test_anonymous_is_asked_who_they_are(client_of, anonymous, user, link):
    data = post(client_of(user), pictures.png()).json()

    assert anonymous.get(data["links"][link]).status_code == 401
    assert post(anonymous, pictures.png()).status_code == 401


def test_staff_can_see_the_picture_of_somebody_else(client_of, user, staff):
    data = post(client_of(user), pictures.png()).json()

    assert client_of(staff).get(data["links"]["file"]).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        pictures.bomb(),
        pictures.animated("WEBP"),
        pictures.png()[:-20],
        pictures.png() + b"PK\x03\x04",
    ],
    ids=["svg", "pdf", "bomb", "animated", "cut off", "polyglot"],
)
def test_what_is_refused_leaves_nothing_behind(client_of, user, data):
    before = stored_files()

    response = post(client_of(user), data)

    problem = response.json()
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert [error["pointer"] for error in problem["errors"]] == ["/file"]
    assert not Input.objects.exists()
    assert stored_files() == before


@pytest.mark.parametrize("form", [{}, {"file": "no file"}])
def test_a_form_without_a_file_is_refused(client_of, user, form):
    response = client_of(user).post(URL, form, format="multipart")

    assert response.status_code == 400


def test_json_is_not_read_here(client_of, user):
    assert client_of(user).post(URL, {"file": "x"}, format="json").status_code == 415


def test_a_key_that_may_only_read_uploads_nothing(user):
    from rest_framework.test import APIClient

    from api.models import ApiKey

    _, token = ApiKey.objects.create(user=user, name="reader", scopes=["read"])
    client = APIClient(headers={"Authorization": f"Bearer {token}"})

    assert post(client, pictures.png()).status_code == 403
    assert client.get(URL).status_code == 200


def test_a_storage_that_takes_nothing_is_told_at_once(client_of, user, monkeypatch):
    def refuse(name, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(default_storage, "save", refuse)

    client = client_of(user)
    client.raise_request_exception = False
    response = post(client, pictures.png())

    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert client.get(URL).json()["results"] == []


def test_one_that_is_about_to_be_removed_is_gone(client_of, user):
    data = post(client_of(user), pictures.png()).json()
    Input.objects.update(removed_at=timezone.now())

    assert client_of(user).get(data["links"]["self"]).status_code == 404


def test_it_says_when_it_expires(client_of, user, settings):
    settings.INPUT_SECONDS = 3600

    post(client_of(user), pictures.png())

    stored = Input.objects.get()
    assert stored.expires_at - stored.created_at == timedelta(hours=1)


def test_the_page_has_a_form_that_leads_to_the_input(client_of, user):
    client = client_of(user)
    html = client.get(URL, headers={"Accept": "text/html"}).content.decode()

    response = post(client, pictures.png(), headers={"Accept": "text/html"})

    assert '<input name="file"  type="file"' in html
    assert (response.status_code, response["Location"]) == (303, f"http://testserver{URL}{Input.objects.get().pk}/")


def test_a_refusal_is_shown_beside_the_field_of_the_form(client_of, user):
    response = post(client_of(user), b"no picture", headers={"Accept": "text/html"})

    html = response.content.decode()
    assert response.status_code == 400
    assert "has-error" in html
    assert "no whole picture" in html


def test_the_list_costs_the_same_number_of_queries_whatever_its_length(client_of, user, django_assert_max_num_queries):
    for _ in range(5):
        factories.make_input(owner=user)

    client = client_of(user)

    with django_assert_max_num_queries(4):
        client.get(URL)
