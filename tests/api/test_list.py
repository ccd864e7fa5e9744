"""GET /api/generations/"""

from base64 import b64encode
from datetime import timedelta

import pytest
from django.utils import timezone

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"


def ids(response) -> list[str]:
    return [generation["id"] for generation in response.json()["results"]]


def test_the_newest_comes_first(client_of, user):
    old, new = factories.make_generation(owner=user), factories.make_generation(owner=user)

    assert ids(client_of(user).get(URL)) == [str(new.pk), str(old.pk)]


def test_everybody_sees_their_own_only(client_of, user, stranger, staff):
    mine = factories.make_generation(owner=user)
    factories.make_generation(owner=stranger)

    assert ids(client_of(user).get(URL)) == [str(mine.pk)]
    assert ids(client_of(staff).get(URL)) == []


def test_anonymous_is_asked_who_they_are(anonymous):
    assert anonymous.get(URL).status_code == 401


def test_it_filters_by_status(client_of, user):
    factories.make_generation(owner=user)
    failed = factories.make_generation(owner=user, status=Status.FAILED)

    assert ids(client_of(user).get(URL, {"status": "failed"})) == [str(failed.pk)]


def test_it_filters_by_model(client_of, user):
    factories.make_generation(owner=user)
    other = factories.make_generation(owner=user, model=factories.make_model(slug="other", is_default=False))

    assert ids(client_of(user).get(URL, {"model": "other"})) == [str(other.pk)]


def test_it_filters_by_time(client_of, user):
    old, new = factories.make_generation(owner=user), factories.make_generation(owner=user)
    yesterday = timezone.now() - timedelta(days=1)
    Generation.objects.filter(pk=old.pk).update(created_at=yesterday - timedelta(hours=1))

    assert ids(client_of(user).get(URL, {"created_after": yesterday.isoformat()})) == [str(new.pk)]
    assert ids(client_of(user).get(URL, {"created_before": yesterday.isoformat()})) == [str(old.pk)]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "done"},
        {"model": "no-such"},
        {"created_after": "yesterday"},
        {"created_after": "2016-12-31T23:59:60Z"},
        {"created_after": "0000-01-01T00:00:00Z"},
        {"model": "a\x00b"},
        {"page_size": "0"},
        {"page_size": "101"},
        {"page_size": "many"},
        {"page_size": "٣"},
    ],
)
def test_a_filter_that_cannot_be_understood_is_refused(client_of, user, query):
    response = client_of(user).get(URL, query)

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        {"created_after": "0001-01-01T00:00:00+14:00"},
        {"created_before": "9999-12-31T23:59:59-14:00"},
        {"created_after": "2020-02-29t00:00:00z"},
        {"created_before": "2044-08-18T19:23:26+19:51"},
    ],
)
def test_any_time_there_is_can_be_compared_with(client_of, user, query):
    generation = factories.make_generation(owner=user)

    assert ids(client_of(user).get(URL, query)) == [str(generation.pk)]


def test_pages_follow_one_another_without_gaps(client_of, user):
    made = [str(factories.make_generation(owner=user).pk) for _ in range(5)]
    client = client_of(user)

    first = client.get(URL, {"page_size": 2})
    second = client.get(first.json()["next"])
    third = client.get(second.json()["next"])

    assert ids(first) + ids(second) + ids(third) == made[::-1]
    assert third.json()["next"] is None


@pytest.mark.parametrize("cursor", ["nonsense", b64encode(b"p=nota").decode(), b64encode(b"p=").decode()])
def test_a_cursor_that_was_made_up_is_refused(client_of, user, cursor):
    assert client_of(user).get(URL, {"cursor": cursor}).status_code == 404


def test_a_page_costs_the_same_number_of_queries_whatever_its_length(client_of, user, django_assert_max_num_queries):
    for _ in range(10):
        factories.make_image(generation=factories.make_generation(owner=user, status=Status.SUCCEEDED))
        factories.make_generation(owner=user)
    client = client_of(user)

    with django_assert_max_num_queries(8):  # session, user, limits; generations, images, inputs; the line's pace
        assert len(ids(client.get(URL))) == 20


def test_options_describe_what_may_be_posted(client_of, user):
    described = client_of(user).options(URL).json()["actions"]["POST"]

    assert described["prompt"]["required"] is True
    assert "status" not in described
