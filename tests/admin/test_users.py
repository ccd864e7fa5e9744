"""Deleting users, whose generations have files."""

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage

from generation.lifecycle import Status
from generation.models import Role
from tests import factories

LIST = "/admin/auth/user/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(user):
    """A stored image of the user's."""
    return factories.make_image(generation=factories.make_generation(owner=user, status=Status.SUCCEEDED))


def test_with_a_user_go_the_files(operator, user, image):
    operator.post(f"{LIST}{user.pk}/delete/", {"post": "yes"})

    assert not User.objects.filter(pk=user.pk).exists()
    assert not default_storage.exists(image.file.name)


def test_with_a_user_go_the_inputs_too(operator, user, model):
    stored = factories.make_input(owner=user)
    generation = factories.make_generation(owner=user, status=Status.FAILED, has_inputs=True)
    generation.inputs.create(role=Role.IMAGE, input=stored, sha256=stored.sha256)

    operator.post(f"{LIST}{user.pk}/delete/", {"post": "yes"})

    assert not User.objects.filter(pk=user.pk).exists()
    assert not default_storage.exists(stored.file.name)


def test_with_many_users_go_their_files(operator, user, image):
    operator.post(LIST, {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes"})

    assert not User.objects.filter(pk=user.pk).exists()
    assert not default_storage.exists(image.file.name)


def test_a_user_with_something_unfinished_stays_and_the_page_says_why(operator, user, image):
    running = factories.make_generation(owner=user, status=Status.RUNNING)

    page = operator.get(f"{LIST}{user.pk}/delete/").content.decode()
    operator.post(f"{LIST}{user.pk}/delete/", {"post": "yes"})

    assert f"Generation {running.pk} is running: cancel it first." in page
    assert User.objects.filter(pk=user.pk).exists()
    assert default_storage.exists(image.file.name)


def test_a_user_is_added_with_a_password(operator):
    form = {"username": "bob", "password1": "quite-a-long-one", "password2": "quite-a-long-one"}

    operator.post(f"{LIST}add/", {**form, "usable_password": "true"})

    assert User.objects.get(username="bob").check_password("quite-a-long-one")
