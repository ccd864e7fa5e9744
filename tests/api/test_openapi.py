"""The description of the API: complete, true, and open to everybody."""

import json
import re
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command

from api.batches.schema import BatchShape
from api.documents import description
from api.generations.shapes import GenerationShape
from api.inputs.schema import InputShape
from generation.lifecycle import Status
from tests import factories, pictures
from tests.api.endpoints import endpoints

FOR_PEOPLE = {
    "GET /api/", "GET /api/docs/", "GET /api/redoc/", "GET /api/schema/",
    "GET /api/auth/login/", "POST /api/auth/login/", "PUT /api/auth/login/", "POST /api/auth/logout/",
}  # fmt: skip

pytestmark = pytest.mark.django_db


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and operation by operation id."""
    return {
        operation["operationId"]: (method, path, operation)
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    }


def request_examples() -> list[Any]:
    """Every example of a request body, with its operation."""
    return [
        pytest.param(method, path, example["value"], media_type, id=f"{name}: {title}")
        for name, (method, path, operation) in operations().items()
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        for title, example in content.get("examples", {}).items()
    ]


def as_sent(body: dict[str, Any], media_type: str) -> dict[str, Any]:
    """The body as the test client takes it; in a form a file's name stands for a picture."""
    if media_type != "multipart/form-data":
        return {"data": json.dumps(body), "content_type": media_type}
    files = {member: SimpleUploadedFile(name, pictures.png()) for member, name in body.items()}
    return {"data": files, "format": "multipart"}


def test_it_is_valid_and_nothing_had_to_be_guessed():
    output = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=output)

    assert json.loads(output.getvalue())["openapi"] == "3.1.1"


@pytest.mark.parametrize(("method", "path", "body", "media_type"), request_examples())
def test_each_example_of_a_request_works(client_of, staff, model, method, path, body, media_type):
    new_id = uuid4()  # where a path of an operation with a body names an id, that is to be a new one

    response = getattr(client_of(staff), method)(path.format(id=new_id), **as_sent(body, media_type))

    assert 200 <= response.status_code < 300, response.content


def test_every_endpoint_of_the_api_is_described():
    described = {f"{method.upper()} {path}" for method, path, _ in operations().values()}
    there = {endpoint.replace(" ", " /") for endpoint in endpoints() if " api/" in endpoint}

    assert {nameless(endpoint) for endpoint in there - FOR_PEOPLE} == {nameless(operation) for operation in described}


def nameless(endpoint: str) -> str:
    """Without the names in the path, which differ: `<uuid:pk>` is described as `{id}`."""
    return re.sub(r"<[^>]+>|{[^}]+}", "{}", endpoint)


def test_every_operation_that_takes_a_body_has_an_example():
    without = [
        name
        for name, (_, _, operation) in operations().items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if not content.get("examples")
    ]

    assert without == []


@pytest.mark.parametrize("status", list(Status))
def test_a_generation_has_the_members_that_are_described(client_of, user, status):
    generation = factories.make_generation(owner=user, status=status)

    shown = client_of(user).get(f"/api/generations/{generation.pk}/").json()

    assert set(shown) == set(GenerationShape().fields)


def test_a_batch_and_an_input_have_the_members_that_are_described(client_of, user):
    batch = factories.make_batch(generation=factories.make_generation(owner=user))
    stored = factories.make_input(owner=user)

    shown_batch = client_of(user).get(f"/api/batches/{batch.pk}/").json()
    shown_input = client_of(user).get(f"/api/inputs/{stored.pk}/").json()

    assert (set(shown_batch), set(shown_input)) == (set(BatchShape().fields), set(InputShape().fields))


def test_every_operation_of_somebodys_declares_who_may_not():
    missing = {
        name: {"401", "403", "429", "503"} - set(operation["responses"])
        for name, (_, _, operation) in operations().items()
        if operation.get("security") != [{}]
    }

    assert {name: codes for name, codes in missing.items() if codes} == {}


def test_anonymous_may_read_it(anonymous):
    response = anonymous.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})

    assert response.status_code == 200
    assert response.json()["info"]["title"] == "Pictor"


def test_it_comes_as_yaml_too(anonymous):
    response = anonymous.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi"})

    assert yaml.safe_load(response.content)["openapi"] == "3.1.1"


@pytest.mark.parametrize("page", ["docs", "redoc"])
def test_a_page_names_nothing_that_is_elsewhere_and_may_not_load_it(client, page):
    response = client.get(f"/api/{page}/")

    names = re.findall(r'(?:src|href)="([^"]+)"', response.content.decode())
    assert names and all(name.startswith("/") for name in names)
    assert "default-src 'self'" in response["Content-Security-Policy"]
    for name in names:
        if name.startswith("/static/"):
            assert client.get(name).status_code == 200
