"""Deadlines: `deadline_seconds`, `Cancel-After`, and what happens past them."""

import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from generation import housekeeping, runner
from generation.lifecycle import CancelReason, Outcome, SeenBy, Status
from generation.models import Generation
from generation.watch import DeadlinePassed
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db
URL = "/api/generations/"


def seconds_given(generation: Generation) -> float:
    return (generation.deadline_at - generation.created_at).total_seconds()


@pytest.mark.parametrize(
    ("value", "seconds"), [("30s", 30), ("45", 45), ("1m", 60), ("1h30m5s", 5405), (" 2h ", 7200), ("90m", 5400)]
)
def test_cancel_after_is_a_duration(client_of, user, model, value, seconds):
    response = client_of(user).post(URL, {"prompt": "x"}, format="json", headers={"Cancel-After": value})

    assert response.status_code == 202
    assert seconds_given(Generation.objects.get()) == seconds


def test_the_body_may_name_it_and_goes_before_the_header(client_of, user, model):
    body = {"prompt": "x", "deadline_seconds": 1.5}

    response = client_of(user).post(URL, body, format="json", headers={"Cancel-After": "1h"})

    assert response.json()["deadline_at"] is not None
    assert seconds_given(Generation.objects.get()) == 1.5


@pytest.mark.parametrize("value", ["", "soon", "-5s", "1d", "5s1m", "1.5m", "9999999"])
def test_a_header_that_is_no_duration_is_refused(client_of, user, model, value):
    response = client_of(user).post(URL, {"prompt": "x"}, format="json", headers={"Cancel-After": value})

    assert response.status_code == 400
    assert not Generation.objects.exists()


@pytest.mark.parametrize("seconds", [0, -1, 604801, 1e300, "nan"])
def test_a_deadline_out_of_range_is_refused(client_of, user, model, seconds):
    response = client_of(user).post(URL, {"prompt": "x", "deadline_seconds": seconds}, format="json")

    assert response.json()["errors"][0]["pointer"] == "/deadline_seconds"


def test_a_header_out_of_range_is_refused(client_of, user, model):
    response = client_of(user).post(URL, {"prompt": "x"}, format="json", headers={"Cancel-After": "0s"})

    assert response.json()["errors"][0]["pointer"] == "/deadline_seconds"


def test_each_request_of_a_batch_has_its_own_or_else_that_of_the_header(client_of, user, model):
    body = {"requests": [{"prompt": "x"}, {"prompt": "y", "deadline_seconds": 5}]}

    client_of(user).post("/api/batches/", body, format="json", headers={"Cancel-After": "1m"})

    assert sorted(map(seconds_given, Generation.objects.all())) == [5, 60]


def test_what_waits_past_its_deadline_is_cancelled_and_says_why(client_of, user):
    late = factories.make_generation(owner=user, deadline_at=Now() - timedelta(seconds=1))
    early = factories.make_generation(owner=user, deadline_at=Now() + timedelta(minutes=1))

    assert housekeeping.end_overdue() == 1

    data = client_of(user).get(f"{URL}{late.pk}/").json()
    early.refresh_from_db()
    assert (data["status"], data["cancel_reason"]) == (Status.CANCELLED, "deadline")
    assert early.status == Status.QUEUED


def test_a_running_one_past_its_deadline_is_asked_to_stop_even_if_its_worker_has_not_seen_it():
    generation = factories.make_generation(status=Status.RUNNING, deadline_at=Now() - timedelta(seconds=1))

    assert (housekeeping.end_overdue(), housekeeping.end_overdue()) == (1, 0)

    generation.refresh_from_db()
    assert (generation.status, generation.cancel_reason) == (Status.RUNNING, CancelReason.DEADLINE)
    assert generation.cancel_requested_at is not None


def test_what_has_ended_keeps_its_end_past_the_deadline():
    generation = factories.make_generation(status=Status.SUCCEEDED, deadline_at=Now() - timedelta(seconds=1))

    assert housekeeping.end_overdue() == 0
    generation.refresh_from_db()
    assert generation.cancel_reason == ""


def test_a_run_stops_at_its_next_step_past_the_deadline(broker):
    device = factories.make_device()
    generation = factories.make_generation(deadline_at=Now() + timedelta(seconds=60), dispatch_no=1)
    worker = Worker(runtime=ScriptedRuntime(), device=device)

    def run_out_of_time(step: int) -> None:
        if step == 3:
            worker.watches()[0].deadline = time.monotonic() - 1

    worker.runtime.at_step = run_out_of_time
    runner.run(generation.pk, 1, worker=worker)

    generation.refresh_from_db()
    attempt = generation.attempts.get()
    assert (generation.status, generation.cancel_reason) == (Status.CANCELLED, CancelReason.DEADLINE)
    assert (attempt.outcome, attempt.step) == (Outcome.CANCELLED, 3)


def test_a_watch_knows_the_deadline_from_the_claim(broker):
    generation = factories.make_generation(deadline_at=Now() + timedelta(seconds=60), dispatch_no=1)
    worker = Worker(runtime=ScriptedRuntime(), device=factories.make_device())
    seen: list[float] = []
    worker.runtime.at_step = lambda step: seen.append(worker.watches()[0].deadline - time.monotonic())

    runner.run(generation.pk, 1, worker=worker)

    assert 0 < seen[0] <= 60


def test_a_cancel_that_came_before_the_deadline_is_the_reason():
    generation = factories.make_generation(dispatch_no=1, deadline_at=Now() - timedelta(seconds=1))
    attempt = generation.claim(device=factories.make_device(), dispatch_no=1)
    generation.request_cancel()

    generation.cancel(attempt, seen_by=SeenBy.FLAG, reason=CancelReason.DEADLINE)

    assert generation.cancel_reason == CancelReason.REQUEST


def test_a_watch_without_deadline_never_stops_for_one():
    watch = factories.make_watch()

    watch.check()
    watch.deadline = time.monotonic() - 1
    with pytest.raises(DeadlinePassed):
        watch.check()
