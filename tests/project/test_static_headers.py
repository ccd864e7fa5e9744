"""Static files carry the security headers of all other answers."""

import pytest
from django.test import Client
from servestatic.middleware import ServeStaticMiddleware

URL = "/static/admin/css/base.css"


@pytest.fixture(autouse=True)
def files_are_read_anew(monkeypatch):
    """The other tests share what one of them has read, with the headers of its settings."""
    read = ServeStaticMiddleware.add_files_from_finders.__wrapped__
    monkeypatch.setattr(ServeStaticMiddleware, "add_files_from_finders", read)


def test_the_type_of_a_static_file_is_not_guessed():
    response = Client().get(URL)

    assert (response.status_code, response["X-Content-Type-Options"]) == (200, "nosniff")
    assert "Strict-Transport-Security" not in response


def test_the_production_profile_covers_static_files(settings):
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True

    response = Client().get(URL)

    assert response["Strict-Transport-Security"] == "max-age=60; includeSubDomains; preload"
