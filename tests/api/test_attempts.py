"""GET /api/generations/{id}/attempts/"""

import pytest

from generation.lifecycle import Outcome, Status
from tests import factories

pytestmark = pytest.mark.django_db


def test_each_attempt_tells_which_way_it_went_and_what_that_took(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    factories.make_attempt(generation=generation, number=1, outcome=Outcome.LOST, runtime="http")
    costs = {"serialise_ms": 0.5, "transfer_ms": 1.5, "wait_ms": 20.0, "pipeline_seconds": 3.0, "store_seconds": 0.1}
    factories.make_attempt(generation=generation, number=2, outcome=Outcome.SUCCEEDED, runtime="uds", **costs)

    first, second = client_of(user).get(f"/api/generations/{generation.pk}/attempts/").json()

    assert (first["number"], first["outcome"], first["runtime"], first["wait_ms"]) == (1, "lost", "http", None)
    assert (second["outcome"], second["runtime"]) == ("succeeded", "uds")
    assert second.items() >= costs.items()


def test_what_belongs_to_the_installation_is_not_told(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.FAILED)
    factories.make_attempt(
        generation=generation, worker="gpu0@secret-host", error_detail="http://10.0.0.1:9000 went away"
    )

    answer = client_of(user).get(f"/api/generations/{generation.pk}/attempts/").content.decode()

    assert "secret-host" not in answer and "10.0.0.1" not in answer


def test_one_that_nobody_has_claimed_has_none(client_of, user):
    generation = factories.make_generation(owner=user)

    assert client_of(user).get(f"/api/generations/{generation.pk}/attempts/").json() == []
