"""API keys: made, seen once, revoked."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from api.models import ApiKey, Scope

LIST = "/admin/api/apikey/"

pytestmark = pytest.mark.django_db


def make_key(operator: Client, owner: User, **values: object) -> str:
    """Make a key in the form; returns the page that follows."""
    data = {"user": owner.pk, "name": "a script", "scopes": [Scope.READ, Scope.GENERATE], **values}
    response = operator.post(f"{LIST}add/", {"expiry_0": "", "expiry_1": "", **data}, follow=True)
    return response.content.decode()


def shown_key(page: str) -> str | None:
    found = re.search(r"<code>(pictor_[0-9a-f]+)</code>", page)
    return found and found[1]


def test_a_new_key_is_shown_and_works(operator, user, anonymous):
    token = shown_key(make_key(operator, user))

    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert anonymous.get("/api/generations/").status_code == 200
    assert ApiKey.objects.get().user == user


def test_a_key_is_shown_only_once(operator, user):
    token = shown_key(make_key(operator, user))
    key = ApiKey.objects.get()

    pages = [operator.get(page).content.decode() for page in (LIST, f"{LIST}{key.pk}/change/", "/admin/")]

    assert not any(token in page for page in pages)
    assert key.token_key == token[:15]
    assert f"{key.token_key}…" in pages[0]


def test_a_key_has_the_scopes_and_the_expiry_that_were_chosen(operator, user):
    make_key(operator, user, scopes=[Scope.READ], expiry_0="2031-05-01", expiry_1="12:00:00")

    key = ApiKey.objects.get()
    assert key.scopes == [Scope.READ]
    assert f"{key.expiry:%Y-%m-%d}" == "2031-05-01"


@pytest.mark.parametrize("wrong", [{"scopes": []}, {"scopes": ["everything"]}, {"name": ""}, {"user": ""}])
def test_a_key_that_cannot_be_is_refused(operator, user, wrong):
    page = make_key(operator, user, **wrong)

    assert shown_key(page) is None
    assert not ApiKey.objects.exists()


def test_of_an_old_key_only_the_limits_can_be_changed(operator, user):
    key, _ = ApiKey.objects.create(user=user, name="a script", scopes=[Scope.READ])

    operator.post(
        f"{LIST}{key.pk}/change/", {"name": "mine", "scopes": [Scope.ADMIN], "user": user.pk, "max_waiting": "3"}
    )

    old = ApiKey.objects.get()
    assert (old.name, old.scopes, old.digest) == ("a script", [Scope.READ], key.digest)
    assert old.max_waiting == 3


def test_a_new_key_has_the_limits_that_were_chosen(operator, user):
    make_key(operator, user, max_requests_per_minute="60")

    key = ApiKey.objects.get()
    assert (key.max_requests_per_minute, key.max_waiting) == (60, None)


def test_a_revoked_key_is_refused_from_then_on(operator, user, anonymous):
    key, token = ApiKey.objects.create(user=user, name="a script")
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    operator.post(f"{LIST}{key.pk}/delete/", {"post": "yes"})

    assert anonymous.get("/api/generations/").status_code == 401


def test_who_is_no_superuser_makes_keys_for_themselves_only(browser_of, staff):
    browser = browser_of("add_apikey", "view_apikey", "view_user")

    make_key(browser, staff)
    assert not ApiKey.objects.exists()

    make_key(browser, User.objects.get(username="linus"))
    assert ApiKey.objects.get().user.username == "linus"
