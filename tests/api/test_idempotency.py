"""The Idempotency-Key header of POST /api/generations/ and /api/batches/"""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from generation import housekeeping
from generation.lifecycle import Status
from generation.models import Batch, Generation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"
BATCHES = "/api/batches/"


def post(client, key, url=URL, **body):
    return client.post(url, body, format="json", headers={"Idempotency-Key": key})


def test_the_same_request_again_is_the_same_generation(client_of, user, model):
    client = client_of(user)

    first = post(client, '"once"', prompt="a red apple")
    second = post(client, '"once"', prompt="a red apple")

    assert (second.status_code, second["Location"]) == (202, first["Location"])
    assert second.json()["seed"] == first.json()["seed"]
    assert Generation.objects.count() == 1


def test_the_answer_is_the_same_after_it_has_ended_and_shows_how(client_of, user, model):
    client = client_of(user)
    post(client, '"once"', prompt="a red apple")
    Generation.objects.get().withdraw()

    again = post(client, '"once"', prompt="a red apple")

    assert (again.status_code, again.json()["status"]) == (202, Status.CANCELLED)


def test_how_the_body_is_spelt_does_not_matter(client_of, user, model):
    client = client_of(user)
    first = client.post(
        URL, '{"prompt": "x", "seed": 1}', content_type="application/json", headers={"Idempotency-Key": '"k"'}
    )

    second = client.post(
        URL, '{"seed":1,"prompt":"x"}', content_type="application/json", headers={"Idempotency-Key": "k"}
    )

    assert second["Location"] == first["Location"]


@pytest.mark.parametrize("other", [{"prompt": "a blue whale"}, {"prompt": "a red apple", "deadline_seconds": 60}])
def test_another_body_under_the_same_key_is_refused(client_of, user, model, other):
    client = client_of(user)
    post(client, '"once"', prompt="a red apple")

    response = post(client, '"once"', **other)

    assert (response.status_code, response.json()["code"]) == (422, "key_reused")
    assert Generation.objects.count() == 1


def test_two_owners_may_use_the_same_key(client_of, user, stranger, model):
    first = post(client_of(user), '"once"', prompt="a red apple")
    second = post(client_of(stranger), '"once"', prompt="a red apple")

    assert first.json()["id"] != second.json()["id"]


def test_a_refused_request_uses_up_no_key(client_of, user, model):
    client = client_of(user)
    post(client, '"once"', prompt="a red apple", width=7)

    assert post(client, '"once"', prompt="a red apple").status_code == 202


@pytest.mark.parametrize(
    "key", ["", '"', '""', "two words", "a,b", '"' + "k" * 256 + '"', "schlüssel".encode().decode("latin-1")]
)
def test_a_key_that_is_none_is_refused(client_of, user, model, key):
    response = post(client_of(user), key, prompt="a red apple")

    assert response.status_code == 400
    assert not Generation.objects.exists()


def test_keys_are_forgotten_after_a_day(client_of, user, model):
    client = client_of(user)
    post(client, '"old"', prompt="a red apple")
    Generation.objects.update(created_at=Now() - timedelta(hours=25))
    post(client, '"young"', prompt="a red apple")

    assert housekeeping.forget_keys() == 1
    assert post(client, '"young"', prompt="a blue whale").status_code == 422
    assert post(client, '"old"', prompt="a blue whale").status_code == 202


def test_a_batch_has_a_key_too(client_of, user, model):
    client = client_of(user)
    body = {"requests": [{"prompt": "a red apple"}, {"prompt": "a blue whale"}]}

    first = post(client, '"once"', url=BATCHES, **body)
    again = post(client, '"once"', url=BATCHES, **body)
    other = post(client, '"once"', url=BATCHES, requests=body["requests"][:1])

    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert again["Location"] == first["Location"]
    assert (Batch.objects.count(), Generation.objects.count()) == (1, 2)


def test_a_request_with_a_deadline_is_the_same_when_it_comes_again(client_of, user):
    factories.make_model()
    client = client_of(user)

    first = post(client, '"once"', prompt="a red apple", deadline_seconds=60)
    again = post(client, '"once"', prompt="a red apple", deadline_seconds=60)

    assert again.json()["deadline_at"] == first.json()["deadline_at"] is not None
