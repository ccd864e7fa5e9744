"""/health/live and /health/ready, and errors outside the API's views"""

import pytest
from django.db import DatabaseError, connection


def test_live_touches_nothing(client):
    assert client.get("/health/live").json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_when_the_database_is_up_to_date(client):
    assert client.get("/health/ready").status_code == 200


@pytest.mark.django_db
def test_not_ready_when_the_database_does_not_answer(client, monkeypatch):
    def refuse():
        raise DatabaseError("away")

    monkeypatch.setattr(connection, "cursor", refuse)

    response = client.get("/health/ready")

    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")


def test_an_unknown_path_is_a_problem_detail(client):
    response = client.get("/nothing/here")

    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")


def test_a_host_that_is_not_allowed_is_a_problem_detail(client):
    response = client.get("/health/live", headers={"Host": "evil.example"})

    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.django_db
def test_an_unexpected_error_says_nothing_internal(client_of, user, monkeypatch):
    from api.generations.views import GenerationViewSet

    def fail(self):
        raise RuntimeError("the canary sings")

    monkeypatch.setattr(GenerationViewSet, "get_queryset", fail)
    client = client_of(user)
    client.raise_request_exception = False

    response = client.get("/api/generations/")

    assert response.status_code == 500
    assert "canary" not in response.content.decode()
