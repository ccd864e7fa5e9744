"""Fixtures of the admin's tests."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from tests import factories


@pytest.fixture
def operator(staff: User) -> Client:
    """A browser in which an operator with all rights is logged in."""
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def browser_of() -> Any:
    """`browser_of(rights)` is a browser with somebody of the staff who has these rights and no others."""

    def make(*rights: str) -> Client:
        somebody = factories.make_user(username="linus", is_staff=True)
        somebody.user_permissions.set(Permission.objects.filter(codename__in=rights))
        client = Client()
        client.force_login(somebody)
        return client

    return make


@pytest.fixture
def said() -> Any:
    """`said(response)` lists the messages that an action left for the next page."""
    return lambda response: [str(message) for message in get_messages(response.wsgi_request)]
