"""/health/live and /health/ready, and errors outside the API's views"""

import pytest
from django.db import DatabaseError, connection
from django.db.models.functions import Now

from generation import dispatch
from generation.models import Housekeeper
from tests import factories


def test_live_touches_nothing(client):
    assert client.get("/health/live").json() == {"status": "ok"}


@pytest.fixture
def well(broker, db, monkeypatch):
    """A service where all do their work."""
    monkeypatch.setattr(dispatch, "_paused_until", 0.0)
    Housekeeper.objects.sign("here")


def reasons(client) -> list[str]:
    """The codes of what does not do its work, while requests are accepted."""
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["status"] == "degraded"
    return [reason["code"] for reason in response.json()["reasons"]]


def test_ready_when_the_database_is_up_to_date_and_all_do_their_work(client, well):
    response = client.get("/health/ready")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_without_a_broker_it_is_ready_and_degraded(client, well, dead_broker):
    assert reasons(client) == ["broker_unavailable"]


def test_without_a_housekeeper_it_is_ready_and_degraded(client, well):
    Housekeeper.objects.all().delete()

    assert reasons(client) == ["no_housekeeper"]


def test_what_waits_for_a_worker_that_is_not_there_makes_it_degraded(client, well, model):
    factories.make_device(is_alive=False)
    factories.make_generation()

    assert reasons(client) == ["no_worker"]


def test_a_model_that_nobody_asks_for_needs_no_worker(client, well, model):
    assert client.get("/health/ready").json() == {"status": "ok"}


def test_a_device_in_quarantine_makes_it_degraded_and_is_not_named(client, well):
    factories.make_device(host="secret", quarantined_at=Now())

    assert reasons(client) == ["device_in_quarantine"]
    assert "secret" not in client.get("/health/ready").content.decode()


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
