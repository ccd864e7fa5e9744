"""POST /api/generations/{id}/cancel/ and /retry/, and the cancel of many"""

import pytest
from django.contrib.auth.models import Permission

from generation.lifecycle import Status
from generation.models import Generation
from tests import factories

pytestmark = pytest.mark.django_db


def cancel(client, generation):
    return client.post(f"/api/generations/{generation.pk}/cancel/")


def retry(client, generation):
    return client.post(f"/api/generations/{generation.pk}/retry/")


def test_a_waiting_one_is_cancelled_there_and_then(client_of, user):
    response = cancel(client_of(user), factories.make_generation(owner=user))

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


def test_a_running_one_is_asked_to_stop(client_of, user):
    response = cancel(client_of(user), factories.make_generation(owner=user, status=Status.RUNNING))

    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert response.json()["cancel_requested_at"] is not None


def test_a_cancelled_one_stays_cancelled(client_of, user):
    response = cancel(client_of(user), factories.make_generation(owner=user, status=Status.CANCELLED))

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_cancel_of_a_finished_one_is_a_conflict(client_of, user, status):
    response = cancel(client_of(user), factories.make_generation(owner=user, status=status))

    assert (response.status_code, response.json()["code"]) == (409, "already_finished")
    assert response["Content-Type"] == "application/problem+json"


def test_nobody_cancels_what_belongs_to_somebody_else(client_of, stranger, user):
    generation = factories.make_generation(owner=user)

    assert cancel(client_of(stranger), generation).status_code == 404
    assert Generation.objects.get().status == Status.QUEUED


def test_staff_may_cancel_it(client_of, staff, user):
    assert cancel(client_of(staff), factories.make_generation(owner=user)).status_code == 200


def test_anonymous_is_asked_who_they_are(anonymous, user):
    assert cancel(anonymous, factories.make_generation(owner=user)).status_code == 401


def test_a_failed_one_can_be_made_again(client_of, user):
    failed = factories.make_generation(owner=user, status=Status.FAILED, seed=7)

    response = retry(client_of(user), failed)

    assert (response.status_code, response.json()["status"], response.json()["seed"]) == (202, "queued", 7)
    assert response.json()["id"] != str(failed.pk)


def test_retry_of_one_that_succeeded_is_a_conflict(client_of, user):
    response = retry(client_of(user), factories.make_generation(owner=user, status=Status.SUCCEEDED))

    assert (response.status_code, response.json()["code"]) == (409, "not_retryable")


def test_nobody_retries_what_belongs_to_somebody_else(client_of, stranger, user):
    assert retry(client_of(stranger), factories.make_generation(owner=user, status=Status.FAILED)).status_code == 404


def test_one_that_is_deleted_meanwhile_is_not_found(client_of, user, monkeypatch):
    generation = factories.make_generation(owner=user)
    withdraw = Generation.withdraw

    def lose_the_race(self, **reason):
        Generation.objects.filter(pk=self.pk).delete()
        return withdraw(self, **reason)

    monkeypatch.setattr(Generation, "withdraw", lose_the_race)

    assert cancel(client_of(user), generation).status_code == 404


@pytest.mark.parametrize(("act", "status"), [(cancel, Status.QUEUED), (retry, Status.FAILED)])
def test_staff_need_the_permission_to_change_what_belongs_to_somebody_else(client_of, user, act, status):
    operator = factories.make_user(username="operator", is_staff=True)
    generation = factories.make_generation(owner=user, status=status)

    refused = act(client_of(operator), generation)
    operator.user_permissions.add(Permission.objects.get(codename="change_generation"))
    done = act(client_of(operator), generation)

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert "generation.change_generation" in refused.json()["detail"]
    assert done.status_code in (200, 202)


def cancel_all(client, **body):
    return client.post("/api/generations/cancel/", body)


def test_the_receipt_is_shown(client_of, user):
    shown = cancel(client_of(user), factories.make_generation(owner=user)).json()

    assert shown["cancel_seen_by"] == "waiting"
    assert shown["cancelled_at"] == shown["cancel_requested_at"]
    assert shown["device_freed_at"] is None


def test_all_of_ones_own_are_cancelled_and_nobody_elses(client_of, user, stranger):
    mine = [factories.make_generation(owner=user) for _ in range(2)]
    factories.make_generation(owner=user, status=Status.RUNNING)
    other = factories.make_generation(owner=stranger)

    response = cancel_all(client_of(user))

    assert (response.status_code, response.json()) == (200, {"cancelled": 2, "stopping": 1})
    assert {Generation.objects.get(pk=row.pk).status for row in mine} == {Status.CANCELLED}
    assert Generation.objects.get(pk=other.pk).status == Status.QUEUED


def test_a_browser_is_answered_with_a_page(client_of, user):
    factories.make_generation(owner=user)

    response = client_of(user).post("/api/generations/cancel/", headers={"accept": "text/html"})

    assert (response.status_code, "&quot;cancelled&quot;: 1" in response.content.decode()) == (200, True)


def test_all_of_a_model_or_of_a_status(client_of, user, model):
    factories.make_generation(owner=user, model=factories.make_model(slug="other", is_default=False))
    factories.make_generation(owner=user, status=Status.RUNNING)

    of_the_model = cancel_all(client_of(user), model="other").json()
    of_the_status = cancel_all(client_of(user), status="running").json()

    assert of_the_model == {"cancelled": 1, "stopping": 0}
    assert of_the_status == {"cancelled": 0, "stopping": 1}


@pytest.mark.parametrize("body", [{"model": "nonsense"}, {"status": "succeeded"}])
def test_what_cannot_be_chosen_is_refused(client_of, user, body):
    factories.make_generation(owner=user)

    assert cancel_all(client_of(user), **body).status_code == 400
    assert Generation.objects.get().status == Status.QUEUED


def test_anonymous_cancels_nothing(anonymous, user):
    assert cancel_all(anonymous).status_code == 401


def test_staff_cancel_all_of_a_model(client_of, staff, user, model):
    factories.make_generation(owner=user)

    response = client_of(staff).post(f"/api/models/{model.slug}/cancel/")

    assert (response.status_code, response.json()) == (200, {"cancelled": 1, "stopping": 0})


def test_nobody_else_cancels_all_of_a_model(client_of, user, model):
    operator = factories.make_user(username="operator", is_staff=True)  # without the permission
    generation = factories.make_generation(owner=user)

    statuses = {client_of(who).post(f"/api/models/{model.slug}/cancel/").status_code for who in (user, operator)}

    assert statuses == {403}
    assert Generation.objects.get(pk=generation.pk).status == Status.QUEUED


def test_all_of_a_model_that_does_not_exist_is_not_found(client_of, staff):
    assert client_of(staff).post("/api/models/nothing/cancel/").status_code == 404
