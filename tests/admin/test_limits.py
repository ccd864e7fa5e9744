"""Limits of single users."""

import pytest

from generation.models import UserLimits

LIST = "/admin/generation/userlimits/"

pytestmark = pytest.mark.django_db


def test_a_user_gets_limits_of_their_own(operator, user):
    operator.post(f"{LIST}add/", {"user": user.pk, "max_waiting": "5", "max_requests_per_minute": "0"})

    row = UserLimits.objects.get()
    assert (row.user, row.max_waiting, row.max_requests_per_minute, row.max_unfinished) == (user, 5, 0, None)


def test_the_list_shows_who_has_which(operator, user):
    UserLimits.objects.create(user=user, max_waiting=54321)

    page = operator.get(LIST).content.decode()

    assert "ada" in page
    assert "54321" in page or "54,321" in page
