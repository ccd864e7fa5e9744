"""From an event to its receiver: what is told, signed how, and tried how often."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from generation.lifecycle import CancelReason, Status
from generation.models import Generation, WebhookAccount, WebhookDelivery, WebhookEvent
from generation.models.webhook import Kind, State
from generation.webhooks import sending
from generation.webhooks.delivery import PAUSES_SECONDS, deliver, pause_after
from generation.webhooks.sending import Answer
from tests import factories

pytestmark = pytest.mark.django_db


def make_event(receiver, **fields) -> WebhookEvent:
    return factories.make_webhook_event(url=receiver.url, **fields)


def deliver_now(event: WebhookEvent) -> WebhookEvent:
    event.refresh_from_db()
    deliver(event.pk, event.tries)
    event.refresh_from_db()
    return event


def seconds_until(event: WebhookEvent) -> float:
    return (event.due_at - timezone.now()).total_seconds()


def test_the_receiver_can_verify_it_with_the_standard_library(receiver):
    event = make_event(receiver)

    deliver_now(event)

    received = receiver.next()
    secret = WebhookAccount.of(event.generation.owner_id).secret
    message = Webhook(secret).verify(received.body, received.headers)
    assert received.headers["webhook-id"] == str(event.pk)
    assert message["type"] == "generation.succeeded"
    assert message["data"]["id"] == str(event.generation_id)


def test_after_a_rotation_it_is_signed_with_both_secrets_for_a_day(receiver):
    event = make_event(receiver)
    account = WebhookAccount.of(event.generation.owner_id)
    old = account.secret
    fresh = account.rotate()

    deliver_now(event)
    within_a_day = receiver.next()
    WebhookAccount.objects.update(rotated_at=Now() - timedelta(hours=25))
    event.resend()
    deliver_now(event)
    after_a_day = receiver.next()

    for secret in (old, fresh):
        Webhook(secret).verify(within_a_day.body, within_a_day.headers)
    Webhook(fresh).verify(after_a_day.body, after_a_day.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(after_a_day.body, after_a_day.headers)


def test_a_success_is_told_with_its_images_and_without_its_prompt(receiver):
    generation = factories.make_generation(status=Status.SUCCEEDED, prompt="my secret plan")
    image = factories.make_image(generation=generation)

    deliver_now(make_event(receiver, generation=generation))

    received = receiver.next()
    data = received.message["data"]
    assert [shown["sha256"] for shown in data["images"]] == [image.sha256]
    assert data["images"][0]["url"] == f"/api/generations/{generation.pk}/images/0/"
    assert data["url"] == f"/api/generations/{generation.pk}/"
    assert "secret plan" not in received.body


def test_a_failure_is_told_with_its_error(receiver):
    generation = factories.make_generation(status=Status.FAILED, error_code="out_of_memory", error_detail="Too large.")

    deliver_now(make_event(receiver, generation=generation))

    message = receiver.next().message
    assert message["type"] == "generation.failed"
    assert message["data"]["error"] == {"code": "out_of_memory", "detail": "Too large."}


def test_a_cancel_is_told_with_its_reason(receiver):
    generation = factories.make_generation(status=Status.CANCELLED, cancel_reason=CancelReason.DEADLINE)

    deliver_now(make_event(receiver, generation=generation))

    message = receiver.next().message
    assert (message["type"], message["data"]["cancel_reason"]) == ("generation.cancelled", "deadline")


def test_progress_is_told_as_it_was_when_it_was_noted(receiver):
    generation = factories.make_generation(status=Status.RUNNING, step=9)

    deliver_now(make_event(receiver, generation=generation, kind=Kind.PROGRESS, facts={"step": 3, "total": 20}))

    message = receiver.next().message
    assert message["type"] == "generation.progress"
    assert (message["data"]["step"], message["data"]["total"]) == (3, 20)


def test_every_try_has_the_same_id_and_the_same_body(receiver):
    event = make_event(receiver)
    receiver.answer(500)

    deliver_now(event)
    deliver_now(event)

    first, second = receiver.next(), receiver.next()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert event.state == State.DELIVERED


def test_a_message_that_comes_twice_sends_once(receiver):
    event = make_event(receiver)

    deliver(event.pk, 0)
    deliver(event.pk, 0)

    assert receiver.requests.qsize() == 1


def test_after_a_try_the_next_ones_come(receiver, broker):
    first = make_event(receiver)
    second = make_event(receiver, generation=factories.make_generation(status=Status.SUCCEEDED))
    first.mark_dispatched()

    deliver_now(first)

    second.refresh_from_db()
    assert (first.dispatched_at, second.dispatched_at is None) == (None, False)


def test_an_event_that_is_gone_with_its_generation_is_no_error(receiver):
    event = make_event(receiver)
    event.generation.delete()

    deliver(event.pk, 0)

    assert receiver.requests.empty()


def test_a_failed_try_is_kept_with_its_answer_and_tried_again_later(receiver):
    event = make_event(receiver)
    receiver.answer(500, b"a stack trace")

    deliver_now(event)

    delivery = event.deliveries.get()
    assert (event.state, event.tries) == (State.PENDING, 1)
    assert 4 < seconds_until(event) < 6
    assert (delivery.status_code, delivery.answer) == (500, "a stack trace")


def test_a_receiver_that_does_not_answer_is_noted_with_the_cause(receiver, monkeypatch):
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.2)
    receiver.may_answer.clear()
    event = make_event(receiver)

    deliver_now(event)

    delivery = event.deliveries.get()
    assert (event.state, delivery.status_code) == (State.PENDING, None)
    assert "within" in delivery.error


def test_redirects_are_failures(receiver):
    event = make_event(receiver)
    receiver.answer(302, Location="https://example.org/")

    assert deliver_now(event).state == State.PENDING


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded(receiver, status):
    event = make_event(receiver)
    receiver.answer(status, Retry_After="600")

    deliver_now(event)

    assert 590 < seconds_until(event) <= 600


def test_retry_after_makes_no_pause_shorter():
    answer = Answer(status_code=429, body="", retry_after_seconds=1)

    assert pause_after(3, answer, jitter=1) == timedelta(seconds=PAUSES_SECONDS[2])


def test_the_pauses_are_three_days_altogether():
    assert timedelta(days=2, hours=20) < timedelta(seconds=sum(PAUSES_SECONDS)) < timedelta(days=3, hours=4)


def test_after_the_last_pause_it_is_given_up(receiver):
    event = make_event(receiver, tries=len(PAUSES_SECONDS))
    receiver.answer(500)

    assert deliver_now(event).state == State.GIVEN_UP
    assert event.due_at is None


def test_410_ends_it_for_the_whole_generation(receiver):
    event = make_event(receiver)
    other = make_event(receiver, generation=event.generation, kind=Kind.STARTED)
    of_another = make_event(receiver, generation=factories.make_generation(status=Status.SUCCEEDED))
    receiver.answer(410)

    deliver_now(event)
    later = make_event(receiver, generation=event.generation, kind=Kind.PROGRESS)
    deliver_now(later)

    states = dict(WebhookEvent.objects.values_list("pk", "state"))
    assert {states[pk] for pk in (event.pk, other.pk, later.pk)} == {State.GONE}
    assert states[of_another.pk] == State.PENDING
    assert receiver.requests.qsize() == 1


def test_an_operator_may_resend_what_was_refused_for_good(receiver):
    event = make_event(receiver)
    make_event(receiver, generation=event.generation, kind=Kind.STARTED)
    receiver.answer(410)
    deliver_now(event)

    event.resend()

    assert deliver_now(event).state == State.DELIVERED
    assert receiver.next().headers["webhook-id"] == receiver.next().headers["webhook-id"]


def test_progress_is_tried_once(receiver):
    event = make_event(receiver, kind=Kind.PROGRESS, facts={"step": 1, "total": 2})
    receiver.answer(500)

    assert deliver_now(event).state == State.GIVEN_UP


def test_an_answer_that_no_standard_knows_is_a_failure(receiver):
    event = make_event(receiver)
    receiver.answer(599)

    assert deliver_now(event).state == State.PENDING


def test_an_answer_that_a_database_cannot_store_is_stored_without_what_it_cannot(receiver):
    event = make_event(receiver)
    receiver.answer(200, b"a\x00b\xff")

    deliver_now(event)

    assert WebhookDelivery.objects.get().answer == "a��b�".replace("��", "�", 1)


def test_what_a_worker_died_over_is_due_again(receiver):
    event = make_event(receiver)
    event.claim(tries=0)

    assert not WebhookEvent.objects.due().exists()
    WebhookEvent.objects.update(due_at=Now() - timedelta(seconds=1))
    assert WebhookEvent.objects.due().get().tries == 1


def test_times_are_of_each_try(receiver):
    event = make_event(receiver, created_at=datetime(2026, 1, 1, tzinfo=UTC))

    deliver_now(event)

    received = receiver.next()
    assert received.message["timestamp"] == "2026-01-01T00:00:00+00:00"
    assert int(received.headers["webhook-timestamp"]) > datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert Generation.objects.get().webhook_url == receiver.url
