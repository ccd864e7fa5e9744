"""GET /api/models/"""

import pytest

from tests import factories

pytestmark = pytest.mark.django_db


def test_it_lists_what_may_be_asked_for_the_default_one_first(client_of, user, model):
    factories.make_model(slug="another", is_default=False)
    factories.make_model(slug="hidden", is_default=False, is_enabled=False)

    listed = client_of(user).get("/api/models/").json()

    assert [shown["slug"] for shown in listed] == [model.slug, "another"]


def test_a_model_shows_its_defaults_limits_and_schedulers(client_of, user, model):
    shown = client_of(user).get(f"/api/models/{model.slug}/").json()

    assert shown["defaults"]["width"] == model.default_width
    assert shown["limits"]["num_images"] == model.max_num_images
    assert "ddim" in shown["schedulers"]
    assert "flow_match_euler" not in shown["schedulers"]


def test_a_model_that_is_disabled_does_not_exist(client_of, user):
    factories.make_model(slug="hidden", is_enabled=False)

    assert client_of(user).get("/api/models/hidden/").status_code == 404


def test_anonymous_is_asked_who_they_are(anonymous, model):
    assert anonymous.get("/api/models/").status_code == 401


def test_a_model_cannot_be_changed_here(client_of, staff, model):
    assert client_of(staff).delete(f"/api/models/{model.slug}/").status_code == 405
