"""GET and DELETE /api/generations/{id}/"""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission

from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Generation
from tests import factories

pytestmark = pytest.mark.django_db


def url(generation) -> str:
    return f"/api/generations/{generation.pk}/"


def test_the_owner_sees_everything_about_it(client_of, user):
    generation = factories.make_generation(owner=user, prompt="a green frog", seed=7)

    data = client_of(user).get(url(generation)).json()

    assert (data["id"], data["status"], data["position"]) == (str(generation.pk), "queued", 1)
    assert (data["prompt"], data["seed"], data["attempts"], data["error"]) == ("a green frog", 7, 0, None)
    assert data["links"]["cancel"].endswith(f"{url(generation)}cancel/")


def test_a_running_one_shows_its_progress(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.RUNNING)
    Generation.objects.filter(pk=generation.pk).update(step=5, total_steps=20)

    data = client_of(user).get(url(generation)).json()

    assert data["progress"] == {"step": 5, "total": 20, "fraction": 0.25}
    assert data["position"] is None


def test_one_that_went_on_elsewhere_shows_from_which_step(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.RUNNING, attempt_count=2, resumed_from_step=12)

    data = client_of(user).get(url(generation)).json()

    assert (data["attempts"], data["resumed_from_step"]) == (2, 12)


def test_a_waiting_one_shows_when_it_will_be_ready(client_of, user, model):
    factories.make_device()
    done = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    attempt = factories.make_attempt(generation=done, outcome=Outcome.SUCCEEDED)
    Attempt.objects.update(ended_at=attempt.started_at + timedelta(seconds=10))
    factories.make_generation(owner=user, status=Status.RUNNING)

    shown = client_of(user).get(url(factories.make_generation(owner=user))).json()["estimate"]

    assert shown == {
        "starts_in_seconds": {"p50": 10.0, "p90": 10.0},
        "finishes_in_seconds": {"p50": 20.0, "p90": 20.0},
    }


def test_what_is_over_has_no_estimate(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)

    assert client_of(user).get(url(generation)).json()["estimate"] is None


def test_a_failed_one_shows_why(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.FAILED)
    Generation.objects.filter(pk=generation.pk).update(error_code="out_of_memory", error_detail="Too large.")

    data = client_of(user).get(url(generation)).json()

    assert data["error"] == {"code": "out_of_memory", "detail": "Too large."}


def test_a_succeeded_one_lists_its_images(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    image = factories.make_image(generation=generation)
    client = client_of(user)

    listed = client.get(url(generation)).json()["images"]

    assert [(shown["index"], shown["sha256"]) for shown in listed] == [(0, image.sha256)]
    assert client.get(listed[0]["url"]).status_code == 200
    assert client.get(listed[0]["thumbnail"]).status_code == 200


@pytest.mark.parametrize("method", ["get", "delete"])
def test_to_others_it_does_not_exist(client_of, stranger, user, method):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)

    response = getattr(client_of(stranger), method)(url(generation))

    assert response.status_code == 404
    assert Generation.objects.filter(pk=generation.pk).exists()


def test_staff_may_look_at_it(client_of, staff, user):
    assert client_of(staff).get(url(factories.make_generation(owner=user))).status_code == 200


def test_anonymous_is_asked_who_they_are(anonymous, user):
    assert anonymous.get(url(factories.make_generation(owner=user))).status_code == 401


@pytest.mark.parametrize(
    "place", ["/api/generations/019aa000-0000-7000-8000-000000000000/", "/api/generations/not-a-uuid/"]
)
def test_what_does_not_exist_is_a_problem_detail(client_of, user, place):
    response = client_of(user).get(place)

    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


def test_delete_removes_a_finished_one(client_of, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    factories.make_image(generation=generation)

    response = client_of(user).delete(url(generation))

    assert response.status_code == 204
    assert not Generation.objects.exists()


def test_delete_of_a_waiting_one_is_a_conflict(client_of, user):
    generation = factories.make_generation(owner=user)

    response = client_of(user).delete(url(generation))

    assert (response.status_code, response.json()["code"]) == (409, "not_finished")
    assert Generation.objects.exists()


def test_a_generation_cannot_be_edited(client_of, user):
    generation = factories.make_generation(owner=user)

    response = client_of(user).patch(url(generation), {"status": "succeeded"}, format="json")

    assert response.status_code == 405


def test_staff_need_the_permission_to_delete_what_belongs_to_somebody_else(client_of, user):
    operator = factories.make_user(username="operator", is_staff=True)
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)

    seen = client_of(operator).get(url(generation))
    refused = client_of(operator).delete(url(generation))
    operator.user_permissions.add(Permission.objects.get(codename="delete_generation"))
    done = client_of(operator).delete(url(generation))

    assert (seen.status_code, refused.status_code, done.status_code) == (200, 403, 204)
