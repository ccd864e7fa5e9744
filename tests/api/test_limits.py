"""Limits as a program sees them: 429 and 503, Retry-After, RateLimit, and requests per minute."""

import logging
import re

import pytest
from rest_framework.test import APIClient

from api import throttles
from api.models import ApiKey
from generation.models import Generation, UserLimits
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"
PROMPT = {"prompt": "a red apple"}


@pytest.fixture(autouse=True)
def redis_is_asked_again(monkeypatch) -> None:
    """A test that lost its Redis must not make the next one leave it alone."""
    monkeypatch.setattr(throttles, "_paused_until", 0.0)


@pytest.fixture
def client(client_of, user) -> APIClient:
    return client_of(user)


def key_client(user, **limits: int) -> APIClient:
    _, token = ApiKey.objects.create(user=user, name="test", **limits)
    return APIClient(headers={"Authorization": f"Bearer {token}"})


def test_too_many_waiting_is_a_problem_that_says_when_to_ask_again(client, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    client.post(URL, PROMPT, format="json")

    response = client.post(URL, PROMPT, format="json")

    problem = response.json()
    assert (response.status_code, response["Content-Type"]) == (429, "application/problem+json")
    assert (problem["code"], problem["violated-policies"]) == ("limit_reached", ["waiting"])
    assert int(response["Retry-After"]) >= 1
    assert response["RateLimit-Policy"] == '"waiting";q=1;qu="generations"'
    assert response["RateLimit"] == f'"waiting";r=0;t={response["Retry-After"]}'


def test_an_accepted_one_tells_what_is_left(client, model, settings):
    settings.MAX_WAITING_PER_USER = 5

    response = client.post(URL, PROMPT, format="json")

    assert response.status_code == 202
    assert response["RateLimit-Policy"] == '"waiting";q=5;qu="generations"'
    assert response["RateLimit"] == '"waiting";r=4'


def test_pixel_steps_tell_their_window(client, model, settings):
    settings.MAX_WAITING_PER_USER, settings.MAX_PIXEL_STEPS_PER_DAY = 0, 10**9

    response = client.post(URL, PROMPT, format="json")

    assert response["RateLimit-Policy"] == '"pixel-steps-per-day";q=1000000000;qu="pixel-steps";w=86400'
    assert response["RateLimit"].startswith(f'"pixel-steps-per-day";r={10**9 - 256 * 256 * 20};t=')


def test_a_limit_beyond_what_a_header_can_hold_is_told_as_the_largest(client, model, settings):
    settings.MAX_WAITING_PER_USER, settings.MAX_PIXEL_STEPS_PER_DAY = 0, 10**17

    response = client.post(URL, PROMPT, format="json")

    assert '"pixel-steps-per-day";q=999999999999999;' in response["RateLimit-Policy"]


def test_what_alone_is_too_much_has_no_time_to_wait(client, model, settings):
    settings.MAX_PIXEL_STEPS_PER_DAY = 1

    response = client.post(URL, PROMPT, format="json")

    assert response.status_code == 429
    assert "Retry-After" not in response


def test_a_full_service_is_503_with_retry_after(client, stranger, model, settings):
    settings.MAX_WAITING = 1
    factories.make_generation(owner=stranger)

    response = client.post(URL, PROMPT, format="json")

    assert (response.status_code, response.json()["code"]) == (503, "service_full")
    assert int(response["Retry-After"]) >= 1


def test_a_retry_needs_a_place_too(client, user, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    cancelled = client.post(URL, PROMPT, format="json").json()
    client.post(cancelled["links"]["cancel"])
    client.post(URL, PROMPT, format="json")

    assert client.post(cancelled["links"]["retry"]).status_code == 429


def test_a_limit_of_a_key_holds_for_that_key_alone(user, model):
    limited, other = key_client(user, max_waiting=1), key_client(user)
    limited.post(URL, PROMPT, format="json")

    refused = limited.post(URL, PROMPT, format="json")

    assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["key-waiting"])
    assert other.post(URL, PROMPT, format="json").status_code == 202


def test_the_generation_knows_the_key_it_was_asked_for_with(user, model):
    key_client(user).post(URL, PROMPT, format="json")

    assert Generation.objects.get().api_key == ApiKey.objects.get().token_key


def test_one_request_too_many_in_a_minute_is_refused(client, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 2
    allowed = [client.get(URL) for _ in range(2)]

    refused = client.get(URL)

    assert [response.status_code for response in allowed] == [200, 200]
    assert allowed[0]["RateLimit-Policy"] == '"requests-per-minute";q=2;w=60'
    remaining = [re.fullmatch(r'"requests-per-minute";r=(\d+);t=\d+', response["RateLimit"])[1] for response in allowed]
    assert remaining == ["1", "0"]
    assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["requests-per-minute"])
    assert 0 < int(refused["Retry-After"]) <= 60


def test_a_minute_later_the_count_starts_anew(client, user, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 1
    client.get(URL)
    (name,) = broker.keys("*requests:user:*")
    assert 0 < broker.ttl(name) <= 60

    broker.pexpire(name, 0)

    assert client.get(URL).status_code == 200


def test_a_counter_that_has_lost_its_end_gets_one(client, user, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 5
    client.get(URL)
    (name,) = broker.keys("*requests:user:*")
    broker.persist(name)

    client.get(URL)

    assert 0 < broker.ttl(name) <= 60


def test_requests_of_a_key_are_counted_apart(user, broker):
    limited, other = key_client(user, max_requests_per_minute=1), key_client(user)
    limited.get(URL)

    assert limited.get(URL).json()["violated-policies"] == ["key-requests-per-minute"]
    assert other.get(URL).status_code == 200


def test_a_row_of_a_user_counts_instead_of_the_settings(client, user, broker, settings):
    settings.MAX_REQUESTS_PER_MINUTE = 1
    UserLimits.objects.create(user=user, max_requests_per_minute=2)

    assert [client.get(URL).status_code for _ in range(3)] == [200, 200, 429]


def test_without_redis_nobody_is_limited_and_the_log_says_so(client, settings, monkeypatch, caplog):
    settings.MAX_REQUESTS_PER_MINUTE = 1
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(throttles, "redis", throttles.connect())

    with caplog.at_level(logging.WARNING):
        answers = [client.get(URL) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "RateLimit" not in answers[0]
    assert [record.message for record in caplog.records if "requests per minute are not limited" in record.message]
    assert len(caplog.records) == 1


def test_a_request_with_a_key_asks_the_database_no_more_for_its_limits(user, model, django_assert_num_queries):
    client = key_client(user)
    client.get("/api/models/")

    with django_assert_num_queries(2):  # the key with its user and their limits; the models
        client.get("/api/models/")
