"""`manage.py create_key`"""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from api.models import ApiKey, Scope

pytestmark = pytest.mark.django_db


def create_key(*arguments: str) -> str:
    """What the command prints."""
    output = StringIO()
    call_command("create_key", *arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


def test_the_key_alone_is_printed_and_works(user, anonymous):
    token = create_key("ada", "--name", "nightly script")

    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {token.strip()}")
    assert anonymous.get("/api/generations/").status_code == 200
    assert ApiKey.objects.get().user == user


def test_it_has_the_scopes_and_the_days_that_were_asked_for(user):
    create_key("ada", "--name", "dashboard", "--scope", "read", "--days", "30")

    key = ApiKey.objects.get()
    assert key.scopes == [Scope.READ]
    assert timedelta(days=29) < key.expiry - timezone.now() <= timedelta(days=30)


def test_a_user_has_as_many_as_they_need(user):
    tokens = {create_key("ada", "--name", name) for name in ("one", "two", "three")}

    assert len(tokens) == 3
    assert user.auth_token_set.count() == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["eve", "--name", "x"], "There is no active user 'eve'"),
        (["ada", "--name", " "], "The name must have 1 to 100 characters"),
        (["ada", "--name", "x" * 101], "The name must have 1 to 100 characters"),
        (["ada", "--name", "x", "--days", "0"], "--days must be from 1"),
        (["ada", "--name", "x", "--scope", "everything"], "invalid choice: 'everything'"),
    ],
)
def test_a_key_that_cannot_be_is_refused_in_one_sentence(user, arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        create_key(*arguments)

    assert not ApiKey.objects.exists()
