"""Who may do what: every endpoint of the service × everybody who could ask.

Whoever adds an endpoint adds its row to `MATRIX`; without one the first test fails.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from api.models import ApiKey, Scope
from generation.lifecycle import Status
from generation.models import Generation
from tests import factories
from tests.api.endpoints import endpoints

pytestmark = pytest.mark.django_db

CALLERS = ("anonymous", "stranger", "owner", "staff", "expired", "wrong_scope")
SAFE = ("GET", "ANY")
PROMPT = {"prompt": "a red apple"}


@dataclass(frozen=True)
class Row:
    """What each of `CALLERS` is answered; `generation` is the status of ada's, which the route names."""

    answers: tuple[int, ...]
    generation: Status = Status.SUCCEEDED
    body: dict[str, Any] = field(default_factory=dict)


def everybody(status: int, **more: Any) -> Row:
    """Open to all; a key is not even looked at."""
    return Row((status,) * len(CALLERS), **more)


def with_a_key(status: int, **more: Any) -> Row:
    """The same for every user, whoever owns what."""
    return Row((401, status, status, status, 401, 403), **more)


def owners_and_staff(status: int, **more: Any) -> Row:
    """For strangers it does not exist."""
    return Row((401, 404, status, status, 401, 403), **more)


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
    "DELETE api/generations/<uuid:pk>/": owners_and_staff(204),
    "POST api/generations/<uuid:pk>/cancel/": owners_and_staff(200, generation=Status.QUEUED),
    "POST api/generations/<uuid:pk>/retry/": owners_and_staff(202, generation=Status.FAILED),
    "GET api/generations/<uuid:pk>/images/<int:index>/": owners_and_staff(200),
    "GET api/generations/<uuid:pk>/images/<int:index>/thumbnail/": owners_and_staff(200),
    "GET api/models/": with_a_key(200),
    "GET api/models/<slug:slug>/": with_a_key(200),
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


def sent(client: APIClient, body: dict[str, Any]) -> dict[str, Any]:
    """A JSON body as `generic` takes it."""
    if not body:
        return {}
    data, content_type = client._encode_data(body, format="json")
    return {"data": data, "content_type": content_type}


@pytest.fixture
def ask(client_for, user, model) -> Callable[[str, str], Any]:
    """`ask(endpoint, caller)` is the answer to a request as the matrix describes it."""

    def request(endpoint: str, caller: str) -> Any:
        method, _, route = endpoint.partition(" ")
        row = MATRIX[endpoint]
        generation = factories.make_generation(owner=user, status=row.generation)
        if row.generation == Status.SUCCEEDED:
            factories.make_image(generation=generation)
        path = path_of(route, pk=generation.pk, index=0, slug=model.slug)
        client = client_for(caller, method)
        return client.generic("GET" if method == "ANY" else method, path, **sent(client, row.body))

    return request


@pytest.mark.parametrize("endpoint", WITH_A_KEY)
def test_every_request_with_a_key_counts_for_requests_per_minute(endpoint, ask, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 5

    assert '"requests-per-minute";r=4' in ask(endpoint, "owner").get("RateLimit", "")


@pytest.mark.parametrize("endpoint", [endpoint for endpoint in WITH_A_KEY if not endpoint.startswith(SAFE)])
def test_whatever_is_created_with_a_key_knows_that_key(endpoint, ask, user):
    ask(endpoint, "owner")

    created = Generation.objects.order_by("pk")[1:]
    assert {generation.api_key for generation in created} <= {ApiKey.objects.get().token_key}


@pytest.mark.parametrize("caller", ["stranger", "owner", "staff"])
def test_what_does_not_exist_is_missing_for_everybody(caller, client_for):
    client = client_for(caller, "GET")

    assert client.get(f"/api/generations/{uuid4()}/").status_code == 404
