"""What is written to the outbox, when, and how it gets to the broker."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now

from generation import dispatch, housekeeping, operations
from generation.lifecycle import SeenBy, Status
from generation.models import Generation, WebhookEvent
from generation.models.webhook import Kind, State
from generation.watch import TELL_SECONDS, Watch
from tests import factories

pytestmark = pytest.mark.django_db
URL = "https://receiver.example/hook"
ALL = list(Kind)


def kinds() -> list[str]:
    return list(WebhookEvent.objects.order_by("id").values_list("kind", flat=True))


def make_generation(events=ALL, **fields) -> Generation:
    return factories.make_generation(webhook_url=URL, webhook_events=events, **fields)


def messages(broker) -> list[dict]:
    key = next((key for key in broker.keys("*") if key.decode().rpartition(":")[2] == dispatch.IO_QUEUE), None)
    return [json.loads(message) for message in broker.lrange(key, 0, -1)] if key else []


def claim(generation):
    return generation.claim(device=factories.make_device(), dispatch_no=generation.dispatch_no)


def test_a_run_is_told_from_its_start_to_its_end():
    generation = make_generation()
    attempt = claim(generation)
    generation.succeed(attempt, images=[])

    started, finished = WebhookEvent.objects.order_by("id")
    assert (started.kind, started.facts) == (Kind.STARTED, {"attempt": 1})
    assert (finished.kind, finished.state) == (Kind.FINISHED, State.PENDING)


@pytest.mark.parametrize(
    "end",
    [
        lambda generation, attempt: generation.fail(attempt, code="x", detail="y"),
        lambda generation, attempt: generation.cancel(attempt, seen_by=SeenBy.FLAG),
        lambda generation, attempt: generation.succeed(attempt, images=[]),
    ],
    ids=["fail", "cancel", "succeed"],
)
def test_every_end_of_a_run_is_told_once(end):
    generation = make_generation([Kind.FINISHED])
    attempt = claim(generation)

    assert end(generation, attempt)
    assert not end(generation, attempt)

    assert kinds() == [Kind.FINISHED]


def test_a_cancel_while_it_waits_is_told():
    operations.cancel(make_generation())

    assert kinds() == [Kind.FINISHED]


def test_what_goes_back_to_the_queue_has_not_ended():
    generation = make_generation()
    attempt = claim(generation)
    generation.release(attempt)
    generation.claim(device=attempt.device, dispatch_no=generation.dispatch_no)

    assert kinds() == [Kind.STARTED, Kind.STARTED]


def test_only_what_was_asked_for_is_told():
    generation = make_generation([Kind.STARTED])
    generation.succeed(claim(generation), images=[])

    assert kinds() == [Kind.STARTED]


def test_without_a_url_nothing_is_told():
    generation = factories.make_generation(webhook_events=ALL)
    generation.succeed(claim(generation), images=[])

    assert kinds() == []


def test_a_status_and_its_event_are_stored_together_or_not_at_all(monkeypatch):
    generation = make_generation()

    def fail(*args):
        raise RuntimeError

    monkeypatch.setattr("generation.models.webhook.note", fail)

    with pytest.raises(RuntimeError):
        generation.withdraw()
    generation.refresh_from_db()
    assert generation.status == Status.QUEUED


def test_the_database_keeps_a_second_end_out():
    event = factories.make_webhook_event()

    with pytest.raises(IntegrityError), transaction.atomic():
        factories.make_webhook_event(generation=event.generation)


def test_a_cancel_sends_its_event_at_once(broker, django_capture_on_commit_callbacks):
    generation = make_generation()

    with django_capture_on_commit_callbacks(execute=True):
        operations.cancel(generation)

    assert [message["headers"]["task"] for message in messages(broker)] == [dispatch.DELIVER_TASK]
    assert WebhookEvent.objects.get().due_at is not None
    assert not WebhookEvent.objects.due().exists()


def test_a_database_that_is_away_stops_nobody_who_has_something_to_tell(monkeypatch):
    generation = make_generation()
    generation.withdraw()

    def fail(*args):
        raise OperationalError("The server closed the connection.")

    monkeypatch.setattr(dispatch, "publish_events", fail)

    assert dispatch.notify(generation) == 0
    assert WebhookEvent.objects.due().exists()


def test_what_the_broker_did_not_take_is_sent_by_the_housekeeper(dead_broker, monkeypatch, redis_server):
    generation = make_generation()
    generation.withdraw()
    assert dispatch.notify(generation) == 0
    assert WebhookEvent.objects.due().exists()

    monkeypatch.undo()
    redis_server.flushall()
    dispatch._paused_until = 0.0

    assert (housekeeping.send_webhooks(), housekeeping.send_webhooks()) == (1, 0)
    assert len(messages(redis_server)) == 1


def test_a_message_that_was_lost_is_made_anew(broker):
    event = factories.make_webhook_event(url=URL)
    housekeeping.send_webhooks()
    broker.flushall()

    WebhookEvent.objects.update(due_at=Now() - timedelta(seconds=1))

    assert housekeeping.send_webhooks() == 1
    assert str(event.pk) in json.dumps(messages(broker)[0]["headers"])


def test_the_broker_holds_only_so_many_and_gets_more_as_they_are_taken(broker, monkeypatch):
    monkeypatch.setattr(dispatch, "IO_WINDOW", 2)
    for _ in range(3):
        factories.make_webhook_event()
    assert (housekeeping.send_webhooks(), housekeeping.send_webhooks()) == (2, 0)

    WebhookEvent.objects.dispatched()[0].succeed()

    assert housekeeping.send_webhooks() == 1
    assert len(messages(broker)) == 3


def test_one_owners_events_do_not_keep_those_of_others_waiting(broker, stranger):
    many = [factories.make_webhook_event() for _ in range(dispatch.IO_SHARE + 2)]
    other = factories.make_generation(owner=stranger, status=Status.SUCCEEDED)
    factories.make_webhook_event(generation=other)

    housekeeping.send_webhooks()

    owners = [event.generation.owner for event in WebhookEvent.objects.dispatched()]
    assert owners.count(many[0].generation.owner) == dispatch.IO_SHARE
    assert owners.count(stranger) == 1


def test_old_progress_is_removed_and_nothing_else():
    old = Now() - timedelta(hours=25)
    generation = factories.make_generation(status=Status.SUCCEEDED)
    factories.make_webhook_event(generation=generation, kind=Kind.PROGRESS, created_at=old)
    young = factories.make_webhook_event(generation=generation, kind=Kind.PROGRESS)
    finished = factories.make_webhook_event(generation=generation, created_at=old)

    assert housekeeping.forget_progress() == 1
    assert set(WebhookEvent.objects.values_list("pk", flat=True)) == {young.pk, finished.pk}


def watch(**fields) -> Watch:
    return factories.make_watch(total=20, webhook_for=uuid4(), **fields)


def test_progress_is_news_once_there_is_some_and_not_too_often():
    assert watch(step=1).has_news(now=0.0)
    assert not watch(step=0).has_news(now=0.0)
    assert not watch(step=2, told_step=1, told_at=0.0).has_news(now=TELL_SECONDS / 2)
    assert watch(step=2, told_step=1, told_at=0.0).has_news(now=TELL_SECONDS)
    assert not watch(step=2, told_step=2, told_at=0.0).has_news(now=TELL_SECONDS)


def test_the_last_step_is_no_news_for_the_end_follows():
    assert not watch(step=20).has_news(now=0.0)
