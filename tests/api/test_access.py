"""Who may do what: every endpoint of the service × everybody who could ask.

Whoever adds an endpoint adds its row to `MATRIX`; without one the first test fails.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from api.dialects.files import link_to
from api.models import ApiKey, Scope
from generation.lifecycle import Status
from generation.models import Generation
from tests import factories, pictures
from tests.api.endpoints import endpoints

pytestmark = pytest.mark.django_db

CALLERS = ("anonymous", "stranger", "owner", "staff", "expired", "wrong_scope")
SAFE = ("GET", "ANY")
PROMPT = {"prompt": "a red apple"}


@dataclass(frozen=True)
class Row:
    """What each of `CALLERS` is answered.

    `pk` in the route is of something of ada's, `generation` the status of her generation. The body is JSON, or a form
    if one of its members is to be a file.
    """

    answers: tuple[int, ...]
    generation: Status = Status.SUCCEEDED
    pk: str = "generation"
    body: dict[str, Any] = field(default_factory=dict)
    file: str = ""


def everybody(status: int, **more: Any) -> Row:
    """Open to all; a key is not even looked at."""
    return Row((status,) * len(CALLERS), **more)


def with_a_key(status: int, **more: Any) -> Row:
    """The same for every user, whoever owns what."""
    return Row((401, status, status, status, 401, 403), **more)


def owners_and_staff(status: int, **more: Any) -> Row:
    """For strangers it does not exist."""
    return Row((401, 404, status, status, 401, 403), **more)


def owners(status: int, **more: Any) -> Row:
    """For everybody else it does not exist."""
    return Row((401, 404, status, 404, 401, 403), **more)


# The test client speaks WSGI, where there are no streams of ours, and where a dialect's answer does not wait.
MATRIX = {
    "GET ": everybody(302),
    "ANY health/live": everybody(200),
    "ANY health/ready": everybody(200),
    "GET api/": with_a_key(200),
    "GET api/schema/": everybody(200),
    "GET api/docs/": everybody(200),
    "GET api/redoc/": everybody(200),
    "GET api/auth/login/": everybody(200),
    "POST api/auth/login/": everybody(200),
    "PUT api/auth/login/": everybody(200),
    "POST api/auth/logout/": everybody(302),
    "GET api/generations/": with_a_key(200),
    "POST api/generations/": with_a_key(202, body=PROMPT),
    "GET api/generations/<uuid:pk>/": owners_and_staff(200),
    "PUT api/generations/<uuid:pk>/": with_a_key(201, pk="new", body=PROMPT),
    "DELETE api/generations/<uuid:pk>/": owners_and_staff(204),
    "POST api/generations/<uuid:pk>/cancel/": owners_and_staff(200, generation=Status.QUEUED),
    "POST api/generations/cancel/": with_a_key(200),
    "POST api/models/<slug:slug>/cancel/": Row((401, 403, 403, 200, 401, 403)),
    "POST api/generations/<uuid:pk>/retry/": owners_and_staff(202, generation=Status.FAILED),
    "GET api/generations/<uuid:pk>/attempts/": owners_and_staff(200),
    "GET api/generations/<uuid:pk>/images/<int:index>/": owners_and_staff(200),
    "GET api/generations/<uuid:pk>/images/<int:index>/thumbnail/": owners_and_staff(200),
    "GET api/generations/<uuid:pk>/events/": owners_and_staff(503),
    "GET api/events/": with_a_key(503),
    "GET api/batches/": with_a_key(200),
    "POST api/batches/": with_a_key(202, body={"requests": [PROMPT]}),
    "GET api/batches/<uuid:pk>/": owners_and_staff(200, pk="batch"),
    "POST api/batches/<uuid:pk>/cancel/": owners_and_staff(200, pk="batch", generation=Status.QUEUED),
    "GET api/inputs/": with_a_key(200),
    "POST api/inputs/": with_a_key(201, file="file"),
    "GET api/inputs/<uuid:pk>/": owners(200, pk="input"),
    "GET api/inputs/<uuid:pk>/file/": owners_and_staff(200, pk="input"),
    "POST api/webhook-secret/": with_a_key(200),
    "GET api/models/": with_a_key(200),
    "GET api/models/<slug:slug>/": with_a_key(200),
    "GET files/<str:token>/<str:name>": everybody(200),
    "GET openai/v1/models": with_a_key(200),
    "GET openai/v1/models/<str:slug>": with_a_key(200),
    "POST openai/v1/images/generations": with_a_key(504, body=PROMPT),
    "POST openai/v1/images/edits": with_a_key(504, body=PROMPT, file="image"),
    "GET replicate/v1/account": with_a_key(200),
    "GET replicate/v1/models": with_a_key(200),
    "GET replicate/v1/models/<str:owner>/<str:name>": with_a_key(200),
    "GET replicate/v1/models/<str:owner>/<str:name>/versions": with_a_key(200),
    "GET replicate/v1/models/<str:owner>/<str:name>/versions/<str:version>": with_a_key(200),
    "POST replicate/v1/models/<str:owner>/<str:name>/predictions": with_a_key(201, body={"input": PROMPT}),
    "GET replicate/v1/deployments": with_a_key(200),
    "GET replicate/v1/deployments/<str:owner>/<str:name>": with_a_key(200),
    "POST replicate/v1/deployments/<str:owner>/<str:name>/predictions": with_a_key(201, body={"input": PROMPT}),
    "GET replicate/v1/predictions": with_a_key(200),
    "POST replicate/v1/predictions": with_a_key(201, body={"version": factories.SHIPPED, "input": PROMPT}),
    "GET replicate/v1/predictions/<uuid:pk>": owners(200),
    "POST replicate/v1/predictions/<uuid:pk>/cancel": owners(200, generation=Status.QUEUED),
    "GET replicate/v1/predictions/<uuid:pk>/stream": owners(200),
    "POST replicate/v1/files": with_a_key(201, file="content"),
    "GET replicate/v1/files": with_a_key(200),
    "GET replicate/v1/files/<uuid:pk>": owners(200, pk="input"),
    "DELETE replicate/v1/files/<uuid:pk>": owners(204, pk="input"),
    "GET replicate/v1/files/<uuid:pk>/download": owners(200, pk="input"),
    "GET replicate/v1/webhooks/default/secret": with_a_key(200),
    "POST fal/<str:owner>/<str:name>": with_a_key(200, body=PROMPT),
    "POST fal/<str:owner>/<str:name>/<path:path>": with_a_key(200, body=PROMPT),
    "GET fal/<str:owner>/<str:name>/requests/<uuid:pk>": owners(200),
    "GET fal/<str:owner>/<str:name>/requests/<uuid:pk>/status": owners(200),
    "GET fal/<str:owner>/<str:name>/requests/<uuid:pk>/status/stream": owners(200),
    "PUT fal/<str:owner>/<str:name>/requests/<uuid:pk>/cancel": owners(200, generation=Status.QUEUED),
    "GET fal/files/<str:token>/<str:name>": everybody(200),
    "GET fal/.well-known/jwks.json": everybody(200),
    "POST fal-run/<str:owner>/<str:name>": with_a_key(504, body=PROMPT),
    "POST fal-run/<str:owner>/<str:name>/<path:path>": with_a_key(504, body=PROMPT),
    "POST fal-run/<str:owner>/<str:name>/stream": with_a_key(200, body=PROMPT),
    "POST fal-run/<str:owner>/<str:name>/<path:path>/stream": with_a_key(200, body=PROMPT),
    "GET fal-run/files/<str:token>/<str:name>": everybody(200),
    "GET fal-run/.well-known/jwks.json": everybody(200),
}


WITH_A_KEY = [endpoint for endpoint, row in MATRIX.items() if row.answers[CALLERS.index("anonymous")] == 401]


def test_every_endpoint_is_in_the_matrix():
    assert set(MATRIX) == set(endpoints())


@pytest.fixture
def key_of() -> Callable[..., APIClient]:
    """`key_of(user, scopes)` is a client with a key of theirs."""

    def make(user: Any, scopes: list[Scope], **values: Any) -> APIClient:
        _, token = ApiKey.objects.create(user=user, name="test", scopes=scopes, **values)
        return APIClient(headers={"Authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def client_for(key_of, user, stranger, staff) -> Callable[[str, str], APIClient]:
    """`client_for(caller, method)` asks as one of `CALLERS`; ada is the owner."""
    both = [Scope.READ, Scope.GENERATE]

    def make(caller: str, method: str) -> APIClient:
        match caller:
            case "stranger":
                return key_of(stranger, both)
            case "owner":
                return key_of(user, both)
            case "staff":
                return key_of(staff, list(Scope))
            case "expired":
                return key_of(user, list(Scope), expiry=timedelta(seconds=-1))
            case "wrong_scope":
                return key_of(user, [Scope.GENERATE if method in SAFE else Scope.READ])
            case _:
                return APIClient()

    return make


def path_of(route: str, **values: Any) -> str:
    """The route with each `<converter:name>` filled in."""
    return "/" + re.sub(r"<\w+:(\w+)>", lambda match: str(values[match[1]]), route)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("endpoint", MATRIX)
def test_each_caller_gets_the_answer_of_the_matrix(endpoint, caller, ask):
    response = ask(endpoint, caller)

    assert response.status_code == MATRIX[endpoint].answers[CALLERS.index(caller)], response


def sent(client: APIClient, row: Row) -> dict[str, Any]:
    """The body as `generic` takes it."""
    body, body_format = row.body, "json"
    if row.file:
        body, body_format = body | {row.file: SimpleUploadedFile("apple.png", pictures.png())}, "multipart"
    if not body:
        return {}
    data, content_type = client._encode_data(body, format=body_format)
    return {"data": data, "content_type": content_type}


def pk_for(row: Row, generation: Generation) -> UUID:
    """The id that the route names."""
    match row.pk:
        case "batch":
            return factories.make_batch(generation=generation).pk
        case "input":
            return factories.make_input(owner=generation.owner).pk
        case "new":
            return uuid7()
        case _:
            return generation.pk


@pytest.fixture
def ask(client_for, user, model) -> Callable[[str, str], Any]:
    """`ask(endpoint, caller)` is the answer to a request as the matrix describes it."""

    def request(endpoint: str, caller: str) -> Any:
        method, _, route = endpoint.partition(" ")
        row = MATRIX[endpoint]
        generation = factories.make_generation(owner=user, status=row.generation)
        values = {"index": 0, "slug": model.slug, "owner": "pictor", "name": model.slug}
        if row.generation == Status.SUCCEEDED:
            link = link_to(factories.make_image(generation=generation), address="")
            values["token"] = link.split("/")[2]
        path = path_of(route, pk=pk_for(row, generation), version="1", path="text-to-image", **values)
        client = client_for(caller, method)
        if route.startswith(("fal/", "fal-run/")) and caller != "anonymous":
            client.defaults["HTTP_AUTHORIZATION"] = client.defaults["HTTP_AUTHORIZATION"].replace("Bearer", "Key")
        return client.generic("GET" if method == "ANY" else method, path, **sent(client, row))

    return request


@pytest.mark.parametrize("endpoint", WITH_A_KEY)
def test_every_request_with_a_key_counts_for_requests_per_minute(endpoint, ask, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 5

    is_for_staff = MATRIX[endpoint].answers[CALLERS.index("owner")] == 403
    answer = ask(endpoint, "staff" if is_for_staff else "owner")

    assert '"requests-per-minute";r=4' in answer.get("RateLimit", "")


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in WITH_A_KEY if not endpoint.startswith(SAFE)])
def test_whatever_is_created_with_a_key_knows_that_key(endpoint, ask, user):
    ask(endpoint, "owner")

    created = Generation.objects.order_by("pk")[1:]
    assert {generation.api_key for generation in created} <= {ApiKey.objects.get().token_key}


@pytest.mark.parametrize("caller", ["stranger", "owner", "staff"])
def test_what_does_not_exist_is_missing_for_everybody(caller, client_for):
    client = client_for(caller, "GET")

    assert client.get(f"/api/generations/{uuid4()}/").status_code == 404
