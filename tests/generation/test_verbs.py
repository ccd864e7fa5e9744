"""The verbs of a generation: who may move it, and who comes too late."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from generation.lifecycle import Outcome, SeenBy, Status
from generation.models import Attempt, Generation
from generation.models.many import beat, withdraw_all
from tests import factories

pytestmark = pytest.mark.django_db
LEASE = timedelta(seconds=15)


def claimed() -> tuple[Generation, Attempt]:
    generation = factories.make_generation(dispatch_no=1)
    attempt = generation.claim(device=factories.make_device(), dispatch_no=1)
    assert attempt is not None
    return generation, attempt


def expire(generation: Generation) -> None:
    Generation.objects.filter(pk=generation.pk).update(lease_until=Now() - timedelta(seconds=1))


def test_a_claim_starts_a_numbered_attempt_with_a_lease():
    generation, attempt = claimed()

    assert generation.status == Status.RUNNING
    assert generation.claim_token == attempt.claim_token
    assert generation.lease_until - generation.started_at == LEASE
    assert (attempt.number, attempt.outcome) == (1, Outcome.RUNNING)


def test_a_second_claim_is_refused():
    generation, _ = claimed()

    assert generation.claim(device=factories.make_device(index=1), dispatch_no=1) is None
    assert generation.attempts.count() == 1


def test_a_claim_with_an_old_dispatch_number_is_refused():
    generation = factories.make_generation(dispatch_no=2)

    assert generation.claim(device=factories.make_device(), dispatch_no=1) is None


def test_a_pinned_generation_is_claimed_by_its_device_only():
    mine, other = factories.make_device(index=0), factories.make_device(index=1)
    generation = factories.make_generation(pinned_to=mine)

    assert generation.claim(device=other, dispatch_no=0) is None
    assert generation.claim(device=mine, dispatch_no=0) is not None


def test_success_stores_the_images_and_ends_the_attempt():
    generation, attempt = claimed()

    assert generation.succeed(attempt, images=[factories.build_image(generation, attempt)])

    attempt.refresh_from_db()
    assert generation.status == Status.SUCCEEDED
    assert generation.step == generation.total_steps
    assert generation.images.count() == 1
    assert attempt.outcome == Outcome.SUCCEEDED


def test_success_after_a_cancel_was_requested_is_refused_and_stores_nothing():
    generation, attempt = claimed()
    generation.request_cancel()

    assert not generation.succeed(attempt, images=[factories.build_image(generation, attempt)])
    assert generation.images.count() == 0


def test_a_finished_generation_is_changed_by_no_verb():
    generation, attempt = claimed()
    generation.fail(attempt, code="out_of_memory", detail="Too large.")

    assert not generation.succeed(attempt, images=[])
    assert not generation.cancel(attempt, seen_by=SeenBy.FLAG)
    assert not generation.release(attempt)
    assert not generation.withdraw()
    assert not generation.request_cancel()
    assert generation.claim(device=factories.make_device(index=1), dispatch_no=1) is None
    generation.refresh_from_db()
    assert generation.status == Status.FAILED


def test_a_worker_that_lost_its_claim_cannot_finish_the_next_attempt():
    generation, first = claimed()
    expire(generation)
    generation.rescue(first)
    second = generation.claim(device=factories.make_device(index=1), dispatch_no=1)

    assert not generation.succeed(first, images=[])
    assert not generation.fail(first, code="x", detail="x")
    assert generation.succeed(second, images=[])


def test_a_release_puts_it_back_in_the_queue_and_does_not_count_as_a_loss():
    generation, attempt = claimed()

    assert generation.release(attempt, step=3)

    attempt.refresh_from_db()
    assert (generation.status, generation.dispatched_at) == (Status.QUEUED, None)
    assert (attempt.outcome, attempt.step) == (Outcome.RELEASED, 3)
    assert generation.attempts.lost().count() == 0


def test_a_release_keeps_the_progress_that_was_saved():
    generation, attempt = claimed()

    generation.release(attempt, step=3, saved_step=3)
    again = generation.claim(device=factories.make_device(index=1), dispatch_no=1, from_step=3)

    generation.refresh_from_db()
    assert (generation.step, generation.resumed_from_step, again.resumed_from_step) == (3, 3, 3)


def test_a_rescue_shows_the_progress_that_was_saved_and_no_more():
    generation, attempt = claimed()
    beat({attempt.claim_token: (7, 20, 5)}, lease=-LEASE)

    generation.rescue(attempt)

    generation.refresh_from_db()
    assert (generation.status, generation.step) == (Status.QUEUED, 5)


def test_an_attempt_that_begins_anew_says_why_and_where():
    generation, attempt = claimed()

    generation.begin_anew(attempt, note="The state was not found.")

    attempt.refresh_from_db()
    assert (attempt.resumed_from_step, attempt.start_note) == (None, "The state was not found.")
    assert (generation.step, generation.saved_step, generation.resumed_from_step) == (0, 0, None)


def test_a_generation_whose_cancel_was_requested_is_not_released():
    generation, attempt = claimed()
    generation.request_cancel()

    assert not generation.release(attempt)
    assert generation.cancel(attempt, seen_by=SeenBy.FLAG)


def test_a_rescue_needs_an_expired_lease():
    generation, attempt = claimed()

    assert not generation.rescue(attempt)

    expire(generation)
    assert generation.rescue(attempt)
    assert generation.status == Status.QUEUED


def test_the_third_loss_fails_it(settings):
    settings.MAX_ATTEMPTS = 3
    generation = factories.make_generation()
    device = factories.make_device()

    for _ in range(3):
        attempt = generation.claim(device=device, dispatch_no=0)
        expire(generation)
        assert generation.rescue(attempt)

    assert (generation.status, generation.error_code) == (Status.FAILED, "worker_lost")
    assert generation.attempts.lost().count() == 3


def test_a_lost_generation_that_was_being_cancelled_ends_as_cancelled():
    generation, attempt = claimed()
    generation.request_cancel()
    expire(generation)

    assert generation.rescue(attempt)
    assert (generation.status, generation.cancel_seen_by) == (Status.CANCELLED, SeenBy.LOSS)


def test_the_receipt_of_one_that_waited_is_the_withdrawal_itself():
    generation = factories.make_generation()

    generation.withdraw()

    assert generation.cancel_seen_by == SeenBy.WAITING
    assert generation.cancelled_at == generation.cancel_requested_at
    assert generation.device_freed_at is None


def test_the_receipt_of_one_that_ran_says_when_the_device_was_free():
    generation, attempt = claimed()
    generation.request_cancel()

    generation.cancel(attempt, seen_by=SeenBy.REVOKE, freed_seconds_ago=2)

    assert generation.cancel_seen_by == SeenBy.REVOKE
    assert generation.cancelled_at - generation.device_freed_at == timedelta(seconds=2)


def test_many_that_wait_are_withdrawn_at_once_and_what_runs_is_left_alone():
    waiting, running = factories.make_generation(), factories.make_generation(status=Status.RUNNING)

    assert withdraw_all([waiting.pk, running.pk]) == 1
    waiting.refresh_from_db()
    assert (waiting.status, waiting.cancel_seen_by) == (Status.CANCELLED, SeenBy.WAITING)


def test_two_dispatchers_cannot_take_the_same_number():
    generation = factories.make_generation()
    rival = Generation.objects.get(pk=generation.pk)

    assert generation.mark_dispatched()
    assert not rival.mark_dispatched()
    assert generation.task_id == f"{generation.pk}:1"


def test_each_dispatch_waits_twice_as_long_for_the_next(settings):
    settings.REDISPATCH_SECONDS = 10
    generation = factories.make_generation()

    generation.mark_dispatched()
    first = generation.redispatch_at - generation.dispatched_at
    generation.mark_dispatched()
    second = generation.redispatch_at - generation.dispatched_at

    assert (first, second) == (timedelta(seconds=10), timedelta(seconds=20))


def test_a_message_that_the_broker_did_not_take_makes_the_next_wait_no_longer(settings):
    settings.REDISPATCH_SECONDS = 10
    generation = factories.make_generation()

    for _ in range(4):
        generation.mark_dispatched()
        generation.unmark_dispatched()
    generation.mark_dispatched()

    assert generation.redispatch_at - generation.dispatched_at == timedelta(seconds=10)


def test_after_a_loss_the_next_message_waits_no_longer_than_the_first(settings):
    settings.REDISPATCH_SECONDS = 10
    generation, attempt = claimed()
    expire(generation)
    generation.rescue(attempt)

    generation.mark_dispatched()

    assert generation.redispatch_at - generation.dispatched_at == timedelta(seconds=10)


def test_a_beat_renews_the_lease_and_notes_the_progress():
    generation, attempt = claimed()
    expire(generation)

    held = beat({attempt.claim_token: (7, 39, 5)}, lease=LEASE)

    generation.refresh_from_db()
    assert held == {attempt.claim_token: False}
    assert (generation.step, generation.total_steps, generation.saved_step) == (7, 39, 5)
    assert not Generation.objects.expired().exists()


def test_a_beat_tells_of_a_requested_cancel():
    generation, attempt = claimed()
    generation.request_cancel()

    assert beat({attempt.claim_token: (0, 1, 0)}, lease=LEASE) == {attempt.claim_token: True}


def test_a_beat_leaves_out_a_lost_claim():
    generation, attempt = claimed()
    expire(generation)
    generation.rescue(attempt)

    assert beat({attempt.claim_token: (0, 1, 0)}, lease=LEASE) == {}
