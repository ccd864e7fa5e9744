"""What the first start creates, and what later starts leave alone."""

import pytest
from django.contrib.auth.models import User

from api.models import ApiKey
from project.first_run import ensure_credentials

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.CREDENTIALS_DIR = tmp_path / "credentials"
    return settings.CREDENTIALS_DIR


def test_the_first_start_creates_an_administrator_with_a_key_and_keeps_both(folder):
    created = ensure_credentials()

    admin = User.objects.get(username="admin")
    assert admin.is_superuser
    assert admin.check_password(created.password)
    assert (folder / "admin_password").read_text().strip() == created.password
    assert (folder / "api_key").read_text().strip() == created.api_key
    assert set(ApiKey.objects.get().scopes) == {"read", "generate", "admin"}


def test_what_it_keeps_is_readable_by_its_owner_only(folder):
    ensure_credentials()

    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"admin_password": 0o600, "api_key": 0o600, "flower_password": 0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_second_start_shows_nothing(folder):
    ensure_credentials()

    again = ensure_credentials()

    assert (again.password, again.api_key) == (None, None)
    assert ApiKey.objects.count() == 1


def test_an_administrator_of_somebody_elses_is_left_alone(folder):
    User.objects.create_superuser("admin", password="their own")

    created = ensure_credentials()

    assert created.password is None
    assert User.objects.get(username="admin").check_password("their own")
    assert not (folder / "admin_password").exists()


def test_a_key_that_opens_nothing_is_replaced(folder):
    first = ensure_credentials().api_key
    ApiKey.objects.all().delete()

    second = ensure_credentials().api_key

    assert second not in (None, first)
    assert (folder / "api_key").read_text().strip() == second


def test_a_database_that_was_lost_gets_the_stored_password_again(folder):
    first = ensure_credentials().password
    User.objects.all().delete()

    assert ensure_credentials().password == first


def test_an_administrator_who_was_renamed_is_not_replaced_and_gets_the_key():
    ensure_credentials()
    User.objects.update(username="grace")
    ApiKey.objects.all().delete()

    again = ensure_credentials()

    assert again.password is None
    assert list(User.objects.values_list("username", flat=True)) == ["grace"]
    assert ApiKey.objects.get().user.username == "grace"


def test_an_admin_who_lost_the_rights_does_not_get_them_back():
    User.objects.create_user("admin", password="their own")

    ensure_credentials()

    assert not User.objects.filter(is_superuser=True).exists()


def test_without_an_active_superuser_there_is_no_key_and_the_log_says_so(caplog):
    User.objects.create_superuser("grace", is_active=False)

    created = ensure_credentials()

    assert (created.api_key, ApiKey.objects.count()) == (None, 0)
    assert "there is no active superuser" in caplog.text
