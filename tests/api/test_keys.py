"""Authentication by API key, and what its scopes allow."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from api.models import ApiKey, Scope
from generation.lifecycle import Status
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/generations/"


def client_with(header: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=header)
    return client


def key_client(user, **values) -> tuple[APIClient, ApiKey]:
    key, token = ApiKey.objects.create(user=user, name="test", **values)
    return client_with(f"Bearer {token}"), key


def test_a_key_stands_for_its_user(user, model):
    client, _ = key_client(user)

    response = client.post(URL, {"prompt": "a red apple"}, format="json")

    assert response.status_code == 202
    assert len(client.get(URL).json()["results"]) == 1


def test_only_a_digest_of_the_key_is_stored(user):
    key, token = ApiKey.objects.create(user=user, name="test")

    stored = " ".join(str(value) for value in ApiKey.objects.values().get(pk=key.pk).values())

    assert token.startswith("pictor_")
    assert token not in stored


def test_the_last_use_is_noted(user):
    client, key = key_client(user)

    client.get(URL)

    key.refresh_from_db()
    assert key.last_used_at is not None


def test_an_expired_key_is_refused(user):
    client, _ = key_client(user, expiry=timedelta(seconds=-1))

    assert client.get(URL).status_code == 401


def test_a_revoked_key_is_refused(user):
    client, key = key_client(user)
    key.delete()

    assert client.get(URL).status_code == 401


def test_a_key_of_somebody_who_was_deactivated_is_refused(user):
    client, _ = key_client(user)
    user.is_active = False
    user.save()

    assert client.get(URL).status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer wrong", "Bearer \xff\xfe", "Basic YTpi", ""])
def test_a_header_that_holds_no_key_is_refused(db, header):
    assert client_with(header).get(URL).status_code == 401


def test_a_key_without_the_scope_generate_only_reads(user, model):
    client, _ = key_client(user, scopes=[Scope.READ])

    response = client.post(URL, {"prompt": "a red apple"}, format="json")

    assert client.get(URL).status_code == 200
    assert response.status_code == 403
    assert "generate" in response.json()["detail"]


def test_a_key_without_the_scope_read_does_not_read(user):
    client, _ = key_client(user, scopes=[Scope.GENERATE])

    assert client.get(URL).status_code == 403


def test_a_key_of_staff_sees_others_only_with_the_scope_admin(staff, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    plain, _ = key_client(staff)
    admin, _ = key_client(staff, scopes=[Scope.READ, Scope.ADMIN])

    assert plain.get(f"{URL}{generation.pk}/").status_code == 404
    assert admin.get(f"{URL}{generation.pk}/").status_code == 200


def test_a_key_may_be_young_forever(user):
    _, key = key_client(user)

    assert key.expiry is None
    assert key.created <= timezone.now()


def test_a_key_of_staff_asks_for_a_high_priority_only_with_the_scope_admin(staff, model):
    asked = {"prompt": "a red apple", "priority": 1}
    plain, _ = key_client(staff)
    admin, _ = key_client(staff, scopes=[Scope.GENERATE, Scope.ADMIN])

    refused = plain.post(URL, asked, format="json")

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/priority")
    assert admin.post(URL, asked, format="json").status_code == 202
