"""Errors of the dialects in their own shape, also for requests that no client of theirs would send."""

import json

import pytest

from api.models import ApiKey

pytestmark = pytest.mark.django_db
OPENAI, REPLICATE, FAL, FAL_RUN = "/openai/v1/", "/replicate/v1/", "/fal/", "/fal-run/"


@pytest.fixture
def ask(client, user, model):
    """`ask("POST", path, body)` with a key of ada's; shows a 500 instead of its cause."""
    _, secret = ApiKey.objects.create(user=user, name="test")
    client.raise_request_exception = False

    def send(method: str, path: str, body: bytes | dict = b"", *, content_type: str = "application/json"):
        word = "Key" if path.startswith("/fal") else "Bearer"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.generic(method, path, data, content_type, headers={"Authorization": f"{word} {secret}"})

    return send


def is_in_the_words_of(path: str, shown: dict) -> bool:
    """Whether the error has the members that the dialect's client reads."""
    if path.startswith(OPENAI):
        return set(shown["error"]) == {"message", "type", "param", "code"}
    if path.startswith(REPLICATE):
        return {"title", "detail", "status"} <= set(shown) and "type" not in shown
    return {"detail", "error_type"} == set(shown)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\x00"])
@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", ""])
@pytest.mark.parametrize(
    "path",
    [
        f"{OPENAI}images/generations",
        f"{OPENAI}images/edits",
        f"{REPLICATE}predictions",
        f"{REPLICATE}files",
        f"{FAL}pictor/fluent-emoji-256",
        f"{FAL_RUN}pictor/fluent-emoji-256",
    ],
)
def test_a_body_that_is_no_request_is_the_clients_fault(ask, path, content_type, body):
    response = ask("POST", path, body, content_type=content_type)

    assert 400 <= response.status_code < 500, response.content[:300]
    assert is_in_the_words_of(path, response.json())


@pytest.mark.parametrize(
    "link",
    [
        "https://pictor.example/replicate/v1/files/------------------------------------",
        "https://pictor.example/files/nonsense/image-0.png",
        "https://[half/files/a/b",
        "data:,",
        "data:image/png;base64,=",
        "data:image/png;base64,ä",
    ],
)
def test_a_link_that_is_none_is_a_fault_of_the_input(ask, link):
    path = f"{REPLICATE}models/a/fluent-emoji-256/predictions"

    response = ask("POST", path, {"input": {"prompt": "a", "image": link}})

    assert response.status_code == 422, response.content[:300]
    assert response.json()["invalid_fields"][0]["field"] == "input.image"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", OPENAI, 404),
        ("GET", f"{OPENAI}nothing", 404),
        ("GET", f"{OPENAI}images/generations", 405),
        ("GET", f"{OPENAI}models?x=%00", 400),
        ("GET", REPLICATE, 404),
        ("GET", f"{REPLICATE}predictions/nothing", 404),
        ("DELETE", f"{REPLICATE}predictions", 405),
        ("GET", f"{REPLICATE}models?x=%00", 400),
        ("GET", FAL, 404),
        ("GET", f"{FAL}pictor", 404),
        ("GET", f"{FAL}pictor/fluent-emoji-256?x=%00", 400),
        ("GET", FAL_RUN, 404),
    ],
)
def test_an_address_that_leads_nowhere(ask, method, path, status):
    response = ask(method, path)

    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    assert is_in_the_words_of(path, response.json())
