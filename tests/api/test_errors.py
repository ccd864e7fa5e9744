"""Errors: problem details everywhere, outside the API's own views too, and nothing internal in them."""

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import DataError, OperationalError
from django.test import Client

from api import documents, health
from api.generations.views import GenerationViewSet
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"
CANARY = "the canary sings in /var/lib"


def problem_of(response) -> dict:
    """The problem detail, which has all the members that the description names and no others."""
    assert response["Content-Type"] == "application/problem+json", response.content[:300]
    problem = response.json()
    assert problem["status"] == response.status_code
    assert {"type", "title", "status", "code", "detail"} <= set(problem)
    assert set(problem) <= {"type", "title", "status", "code", "detail", "errors", "violated-policies"}
    return problem


@pytest.fixture
def lenient(client_of, user) -> Client:
    """A client of ada's that is shown a 500 instead of its cause."""
    client = client_of(user)
    client.raise_request_exception = False
    return client


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/nothing/", 404),
        ("/api/generations/not-a-uuid/", 404),
        ("/api/generations/00000000-0000-0000-0000-000000000000/", 404),
        ("/api/models/no-such-model/", 404),
        ("/api/generations/?model=%00", 400),
        ("/api/generations/%00/", 404),
        ("/api/models/a%00b/", 404),
        ("/api/docs/?x=%00", 400),
    ],
)
def test_an_address_that_leads_nowhere(lenient, path, status):
    assert problem_of(lenient.get(path))["status"] == status


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("put", URL, {"GET", "POST", "HEAD", "OPTIONS"}),
        ("patch", "/api/models/", {"GET", "HEAD", "OPTIONS"}),
        ("trace", URL, {"GET", "POST", "HEAD", "OPTIONS"}),
        ("post", "/api/schema/", {"GET", "HEAD", "OPTIONS"}),
        ("post", "/api/docs/", {"GET", "HEAD"}),
        ("delete", "/api/redoc/", {"GET", "HEAD"}),
        ("post", "/health/live", {"GET", "HEAD"}),
        ("post", "/health/ready", {"GET", "HEAD"}),
        ("post", "/", {"GET", "HEAD"}),
        ("get", "/api/auth/logout/", {"POST", "OPTIONS"}),
    ],
)
def test_a_method_that_is_not_possible(lenient, method, path, allowed):
    response = lenient.generic(method.upper(), path)

    assert problem_of(response)["code"] == "method_not_allowed"
    assert {word.strip() for word in response["Allow"].split(",")} == allowed


@pytest.mark.parametrize("accept", ["image/png", "application/xml", "nonsense"])
@pytest.mark.parametrize("path", [URL, "/api/models/", "/api/schema/"])
def test_an_answer_in_a_form_that_is_not_offered(lenient, path, accept):
    response = lenient.get(path, headers={"Accept": accept})

    assert problem_of(response)["code"] == "not_acceptable"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("application/xml", 415),
        ("application/x-www-form-urlencoded; charset=klingon", 400),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=ä", 400),
        ("nonsense", 415),
        ("", 415),
    ],
)
def test_a_body_of_a_kind_that_is_not_read(lenient, model, content_type, status):
    response = lenient.generic("POST", URL, b'{"prompt": "a"}', content_type=content_type)

    assert problem_of(response)["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        b'{"prompt": "a\x00b"}',
        rb'{"prompt": "a\u0000b"}',
        rb'{"prompt": "a", "model": "\u0000"}',
        rb'{"prompt": "a", "\u0000": 1}',
        b'{"prompt": "a", "guidance_scale": 1e999}',
        b'{"prompt": "a", "guidance_scale": ' + b"9" * 400 + b"}",
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "a", "width": "64"}',
        b'{"prompt": "a", "width": true}',
        b'{"prompt": "a", "reproducible": "yes"}',
        b'{"prompt": "a", "reproducible": 1}',
        b'{"prompt": "a", "priority": "0"}',
        b'{"prompt": 12}',
        b'{"prompt": "a", "scheduler": {}}',
    ],
)
def test_a_body_that_makes_no_sense(lenient, model, body):
    response = lenient.generic("POST", URL, body, content_type="application/json")

    assert problem_of(response)["status"] == 400


def test_a_form_with_more_fields_than_anybody_needs(lenient, model):
    form = "&".join(f"field{number}=1" for number in range(2000))

    response = lenient.generic("POST", URL, form.encode(), content_type="application/x-www-form-urlencoded")

    assert problem_of(response)["status"] == 400


def test_a_body_that_django_itself_finds_too_large(lenient, model, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100

    response = lenient.generic("POST", URL, b"prompt=" + b"a" * 200, content_type="application/x-www-form-urlencoded")

    assert problem_of(response)["code"] == "body_too_large"


def raising(error: Exception):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError(CANARY), 500),
        (SuspiciousOperation(CANARY), 400),
        (DataError(CANARY), 400),
        (OperationalError(CANARY), 503),
        (PermissionError(CANARY), 500),
    ],
)
def test_an_error_inside_a_view_tells_nothing_internal(lenient, monkeypatch, error, status):
    monkeypatch.setattr(GenerationViewSet, "get_queryset", raising(error))

    response = lenient.get(URL)

    assert problem_of(response)["status"] == status
    assert "canary" not in response.content.decode()


@pytest.mark.parametrize(("error", "status"), [(RuntimeError(CANARY), 500), (SuspiciousOperation(CANARY), 400)])
def test_an_error_outside_the_views_of_drf_tells_nothing_internal(lenient, monkeypatch, error, status):
    monkeypatch.setattr(documents.DocumentView, "render_to_response", raising(error))

    response = lenient.get("/api/docs/")

    assert problem_of(response)["status"] == status
    assert "canary" not in response.content.decode()


def test_an_error_of_the_database_in_the_health_check_tells_nothing_internal(lenient, monkeypatch):
    monkeypatch.setattr(health, "MigrationExecutor", raising(OperationalError(CANARY)))

    response = lenient.get("/health/ready")

    assert problem_of(response)["code"] == "database_unavailable"
    assert "canary" not in response.content.decode()


def test_a_form_without_the_token_of_the_page(user):
    browser = Client(enforce_csrf_checks=True)

    response = browser.post("/api/auth/login/", {"username": "ada", "password": factories.PASSWORD})

    assert problem_of(response)["code"] == "csrf_failed"


def test_a_key_that_nobody_has_is_not_repeated(anonymous):
    response = anonymous.get(URL, headers={"Authorization": "Bearer pictor_0123456789abcdef"})

    assert problem_of(response)["status"] == 401
    assert "0123456789abcdef" not in response.content.decode()


def test_a_form_without_the_token_is_a_page_for_who_asked_for_one(user):
    browser = Client(enforce_csrf_checks=True, headers={"Accept": "text/html"})

    response = browser.post("/api/auth/login/", {"username": "ada", "password": factories.PASSWORD})

    assert (response.status_code, response["Content-Type"]) == (403, "text/html; charset=utf-8")


def test_a_fault_of_the_domain_looks_as_the_documentation_shows_it(lenient, model):
    response = lenient.post(URL, {"prompt": "a", "width": 100}, format="json")

    sentence = "100 is not a multiple of 8 from 64 to 512 pixels."
    assert problem_of(response)["detail"] == f"width: {sentence}"
    assert response.json()["errors"] == [{"pointer": "/width", "code": "invalid", "detail": sentence}]
