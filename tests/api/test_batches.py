"""/api/batches/"""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from generation.lifecycle import Status
from generation.models import Batch, Generation
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/batches/"


def post(client, *requests):
    return client.post(URL, {"requests": requests}, format="json")


def make_batch(owner, *statuses, **fields) -> Batch:
    batch = Batch.objects.create(owner=owner, size=len(statuses), fingerprint="")
    for status in statuses:
        factories.make_generation(owner=owner, status=status, batch=batch, **fields)
    return batch


def look(client, batch):
    return client.get(f"{URL}{batch.pk}/")


def test_a_batch_is_accepted_as_a_whole_and_in_order(client_of, user, model):
    response = post(client_of(user), {"prompt": "one"}, {"prompt": "two", "seed": 7}, {"prompt": "three"})

    data = response.json()
    generations = Generation.objects.queued()
    assert response.status_code == 202
    assert response["Location"] == data["links"]["self"]
    assert (data["status"], data["size"], data["counts"]["queued"]) == ("queued", 3, 3)
    assert [generation.prompt for generation in generations] == ["one", "two", "three"]
    assert [shown["id"] for shown in data["generations"]] == [str(generation.pk) for generation in generations]


def test_one_bad_request_refuses_all_and_is_named_by_its_index(client_of, user, model):
    response = post(client_of(user), {"prompt": "one"}, {"prompt": "two", "width": 7}, {"prompt": "", "size": 1})

    assert response.status_code == 400
    assert {error["pointer"].rsplit("/", 1)[0] for error in response.json()["errors"]} == {"/requests/2"}
    assert not Generation.objects.exists() and not Batch.objects.exists()


def test_faults_that_only_the_domain_sees_are_named_by_their_index_too(client_of, user, model):
    response = post(client_of(user), {"prompt": "one", "width": 7}, {"prompt": "two"}, {"prompt": "x", "seed": -1})

    assert [error["pointer"] for error in response.json()["errors"]] == ["/requests/0/width", "/requests/2/seed"]
    assert not Generation.objects.exists()


@pytest.mark.parametrize(
    "body",
    [{}, [], {"requests": []}, {"requests": [{"prompt": "x"}] * 101}, {"requests": "x"}, {"requests": ["x"]},
     {"requests": [{"prompt": "x"}], "priority": 1}],
)  # fmt: skip
def test_what_is_no_batch_is_refused(client_of, user, model, body):
    response = client_of(user).post(URL, body, format="json")

    assert response.status_code == 400
    assert not Generation.objects.exists()


def test_a_hundred_requests_cost_hardly_more_queries_than_one(client_of, user, model):
    client = client_of(user)

    def queries(count: int) -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert post(client, *[{"prompt": "x"}] * count).status_code == 202
        return len(captured)

    few, many = queries(1), queries(100)

    assert many - few <= 6  # SQLite takes at most 999 values in one INSERT; and who is one of many counts anew


def test_anonymous_is_asked_who_they_are(anonymous, model):
    assert post(anonymous, {"prompt": "x"}).status_code == 401


@pytest.mark.parametrize(
    ("statuses", "summed"),
    [
        ([Status.QUEUED, Status.QUEUED], Status.QUEUED),
        ([Status.QUEUED, Status.RUNNING], Status.RUNNING),
        ([Status.QUEUED, Status.SUCCEEDED], Status.RUNNING),
        ([Status.RUNNING, Status.FAILED], Status.RUNNING),
        ([Status.SUCCEEDED, Status.SUCCEEDED], Status.SUCCEEDED),
        ([Status.SUCCEEDED, Status.CANCELLED], Status.CANCELLED),
        ([Status.SUCCEEDED, Status.CANCELLED, Status.FAILED], Status.FAILED),
    ],
)
def test_its_status_sums_up_those_of_its_generations(client_of, user, statuses, summed):
    data = look(client_of(user), make_batch(user, *statuses)).json()

    assert data["status"] == summed
    assert sum(data["counts"].values()) == len(statuses)
    assert (data["finished_at"] is None) == (summed in (Status.QUEUED, Status.RUNNING))


def test_its_progress_is_over_all_steps(client_of, user, model):
    batch = make_batch(user, Status.SUCCEEDED, Status.QUEUED, num_inference_steps=20)

    data = look(client_of(user), batch).json()

    assert data["progress"] == {"step": 20, "total": 40, "fraction": 0.5}


def test_somebody_elses_batch_is_not_there(client_of, user, stranger):
    batch = make_batch(user, Status.QUEUED)
    client = client_of(stranger)

    assert look(client, batch).status_code == 404
    assert client.post(f"{URL}{batch.pk}/cancel/").status_code == 404
    assert client.get(URL).json()["results"] == []


def test_staff_may_look_at_it_and_need_the_permission_to_cancel(client_of, user):
    operator = factories.make_user(username="operator", is_staff=True)
    batch = make_batch(user, Status.QUEUED)

    seen = look(client_of(operator), batch)
    refused = client_of(operator).post(f"{URL}{batch.pk}/cancel/")
    operator.user_permissions.add(Permission.objects.get(codename="change_generation"))
    done = client_of(operator).post(f"{URL}{batch.pk}/cancel/")

    assert (seen.status_code, refused.status_code, done.status_code) == (200, 403, 200)


def test_cancel_ends_what_waits_and_asks_what_runs(client_of, user):
    batch = make_batch(user, Status.QUEUED, Status.RUNNING, Status.SUCCEEDED)

    response = client_of(user).post(f"{URL}{batch.pk}/cancel/")

    assert response.status_code == 202
    assert response.json()["counts"] == {"queued": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 1}
    assert Generation.objects.running().get().cancel_requested_at is not None


def test_cancel_of_what_has_ended_changes_nothing(client_of, user):
    batch = make_batch(user, Status.SUCCEEDED, Status.FAILED)

    response = client_of(user).post(f"{URL}{batch.pk}/cancel/")

    assert (response.status_code, response.json()["status"]) == (200, Status.FAILED)


def test_the_list_of_generations_can_be_narrowed_to_a_batch(client_of, user):
    batch = make_batch(user, Status.QUEUED, Status.SUCCEEDED)
    factories.make_generation(owner=user)
    client = client_of(user)

    results = client.get(look(client, batch).json()["links"]["generations"]).json()["results"]

    assert {shown["batch"] for shown in results} == {str(batch.pk)}
    assert len(results) == 2


def test_a_deleted_generation_counts_no_more(client_of, user):
    batch = make_batch(user, Status.SUCCEEDED, Status.FAILED)
    client = client_of(user)
    failed = Generation.objects.get(status=Status.FAILED)
    client.delete(f"/api/generations/{failed.pk}/")

    data = look(client, batch).json()

    assert (data["status"], data["size"], len(data["generations"])) == (Status.SUCCEEDED, 2, 1)


def test_the_page_in_a_browser_leads_from_the_form_to_the_batch(client_of, user, model):
    client = client_of(user)

    page = client.post(URL, {"requests": [{"prompt": "x"}]}, format="json", headers={"accept": "text/html"})

    assert page.status_code == 303
    assert client.get(page["Location"], headers={"accept": "text/html"}).status_code == 200
    assert client.get(URL, headers={"accept": "text/html"}).status_code == 200
