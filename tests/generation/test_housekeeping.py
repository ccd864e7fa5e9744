"""The chores that repair what died."""

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from django.utils import timezone

from generation import dispatch, housekeeping
from generation.lifecycle import Outcome, Status
from generation.models import Generation
from tests import factories

pytestmark = pytest.mark.django_db


def test_what_waits_in_the_database_is_published_when_there_is_room(broker, model):
    generation = factories.make_generation()

    assert housekeeping.fill_windows() == 1

    generation.refresh_from_db()
    assert generation.dispatch_no == 1


def test_a_message_that_nobody_received_is_published_again(broker, model):
    generation = factories.make_generation()
    dispatch.publish(generation)
    Generation.objects.update(redispatch_at=Now() - timedelta(seconds=1))

    assert housekeeping.redispatch_overdue() == 1

    generation.refresh_from_db()
    assert generation.dispatch_no == 2


def test_a_message_that_is_merely_waiting_is_left_alone(broker, model):
    dispatch.publish(factories.make_generation())

    assert housekeeping.redispatch_overdue() == 0


def make_backed_off(*, minutes: int = 2, **fields) -> Generation:
    """A generation whose message was sent again and again while no worker was there, the last time just too early."""
    return factories.make_generation(
        dispatch_no=7,
        dispatched_at=timezone.now() - timedelta(minutes=minutes),
        redispatch_at=timezone.now() + timedelta(minutes=minutes),
        **fields,
    )


def test_a_message_is_not_waited_for_while_a_device_has_nothing_to_do(broker, model):
    generation = make_backed_off()
    factories.make_device()

    assert housekeeping.redispatch_to_idle() == 1

    generation.refresh_from_db()
    assert generation.dispatch_no == 8


def test_no_more_is_sent_again_than_idle_devices_take(broker, model):
    for _ in range(5):
        make_backed_off()
    factories.make_device(slots=2)

    assert housekeeping.redispatch_to_idle() == 2


def test_a_message_waits_while_all_devices_are_busy_or_dead(broker, model):
    make_backed_off()
    factories.make_generation().claim(device=factories.make_device(slots=1), dispatch_no=0)
    factories.make_device(index=1, is_alive=False)

    assert housekeeping.redispatch_to_idle() == 0


def test_a_device_that_runs_a_large_picture_has_fewer_places_free(broker, model):
    for _ in range(5):
        make_backed_off()
    device = factories.make_device(slots=24, facts={model.slug: {"at_once": 4, "pixels": 256 * 256}})
    factories.make_generation(width=512, height=256).claim(device=device, dispatch_no=0)

    assert housekeeping.redispatch_to_idle() == 2


def test_a_large_picture_of_another_model_counts_once(broker, model):
    for _ in range(5):
        make_backed_off()
    other = factories.make_model(slug="other")
    facts = {model.slug: {"at_once": 4}, "other": {"at_once": 18, "pixels": 256 * 256}}
    device = factories.make_device(slots=24, facts=facts)
    factories.make_generation(model=other, width=2048, height=2048).claim(device=device, dispatch_no=0)

    assert housekeeping.redispatch_to_idle() == 3


def test_each_of_the_same_size_counts(broker, model):
    for _ in range(5):
        make_backed_off()
    device = factories.make_device(slots=4)
    for _ in range(3):
        factories.make_generation().claim(device=device, dispatch_no=0)

    assert housekeeping.redispatch_to_idle() == 1


def test_a_device_that_keeps_its_places_free_for_one_alone_is_busy(broker, model):
    make_backed_off()
    factories.make_generation(runs_alone=True).claim(device=factories.make_device(slots=4), dispatch_no=0)

    assert housekeeping.redispatch_to_idle() == 0


def test_what_was_sent_a_moment_ago_is_given_time_to_arrive(broker, model):
    factories.make_device()
    make_backed_off(minutes=0)

    assert housekeeping.redispatch_to_idle() == 0


def test_a_generation_of_a_lost_worker_waits_again(model):
    generation = factories.make_generation()
    attempt = generation.claim(device=factories.make_device(), dispatch_no=0)
    Generation.objects.update(lease_until=Now() - timedelta(seconds=1))

    assert housekeeping.rescue_expired() == 1

    generation.refresh_from_db()
    attempt.refresh_from_db()
    assert (generation.status, attempt.outcome) == (Status.QUEUED, Outcome.LOST)


def test_a_generation_of_a_live_worker_is_left_alone(model):
    factories.make_generation().claim(device=factories.make_device(), dispatch_no=0)

    assert housekeeping.rescue_expired() == 0


def test_a_generation_is_not_taken_from_its_worker_right_after_the_database_was_away(model, monkeypatch):
    factories.make_generation().claim(device=factories.make_device(), dispatch_no=0)
    Generation.objects.update(lease_until=Now() - timedelta(seconds=1))
    monkeypatch.setattr(housekeeping, "_answers_since", None)

    housekeeping.do_chores()

    assert Generation.objects.get().status == Status.RUNNING


def test_it_is_taken_once_the_living_had_time_to_renew_their_leases(model, monkeypatch, settings):
    settings.LEASE_SECONDS = 6
    factories.make_generation().claim(device=factories.make_device(), dispatch_no=0)
    Generation.objects.update(lease_until=Now() - timedelta(seconds=1))
    monkeypatch.setattr(housekeeping, "_answers_since", time.monotonic() - 4)

    assert housekeeping.rescue_after_patience() == 1


def test_who_had_to_wait_for_the_write_lock_is_patient_again(model, monkeypatch, settings):
    settings.LEASE_SECONDS = 6
    factories.make_generation().claim(device=factories.make_device(), dispatch_no=0)
    Generation.objects.update(lease_until=Now() - timedelta(seconds=1))
    clock = iter([100.0, 105.0, 105.0])  # asked, got the lock, noted
    monkeypatch.setattr(housekeeping, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(housekeeping, "_answers_since", 1.0)

    assert housekeeping.rescue_after_patience() == 0
    assert (Generation.objects.get().status, housekeeping._answers_since) == (Status.RUNNING, 105.0)


def test_who_has_not_looked_for_a_while_is_patient_too(model, monkeypatch):
    factories.make_generation().claim(device=factories.make_device(), dispatch_no=0)
    Generation.objects.update(lease_until=Now() - timedelta(seconds=1))
    monkeypatch.setattr(housekeeping, "_answers_since", time.monotonic() - 1000)
    monkeypatch.setattr(housekeeping, "_last_round_at", time.monotonic() - 1000)

    housekeeping.do_chores()

    assert Generation.objects.get().status == Status.RUNNING


def test_a_chore_that_finds_the_database_away_starts_the_patience_anew(model, monkeypatch):
    def fail() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(housekeeping, "CHORES", (fail,))

    housekeeping.do_chores()

    assert housekeeping._answers_since is None


def test_a_chore_that_fails_keeps_no_other_from_being_done(model, monkeypatch):
    done = []

    def fail() -> None:
        raise ValueError

    monkeypatch.setattr(housekeeping, "CHORES", (fail, lambda: done.append(True)))

    housekeeping.do_chores()

    assert done == [True]


def test_an_open_attempt_whose_generation_has_gone_on_is_closed(model):
    generation = factories.make_generation(status=Status.RUNNING)
    attempt = factories.make_attempt(generation=generation)
    Generation.objects.update(claim_token=None, status=Status.QUEUED)

    assert housekeeping.close_attempts() == 1
    attempt.refresh_from_db()
    assert (attempt.outcome, housekeeping.close_attempts()) == (Outcome.LOST, 0)


def test_the_attempt_of_a_running_generation_stays_open(model):
    factories.make_attempt(generation=factories.make_generation(status=Status.RUNNING))

    assert housekeeping.close_attempts() == 0
