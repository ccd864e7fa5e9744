"""What the outside may do: submit, cancel, retry, delete."""

import pytest
from django.core.files.storage import default_storage

from generation import operations
from generation.errors import AlreadyFinished, InvalidParameters, NotFinished, NotRetryable
from generation.lifecycle import Status
from generation.models import Generation, WebhookEvent
from generation.models.webhook import Kind
from generation.parameters import Wishes
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_submitted_generation_waits_with_everything_decided(user, model):
    generation = operations.submit(Wishes(prompt="a red apple"), owner=user)

    generation.refresh_from_db()
    assert generation.status == Status.QUEUED
    assert generation.total_steps == model.default_num_inference_steps
    assert 0 <= generation.seed < 2**32


def test_a_refused_submit_stores_nothing(user, model):
    with pytest.raises(InvalidParameters):
        operations.submit(Wishes(prompt=""), owner=user)

    assert not Generation.objects.exists()


def test_priority_one_is_for_staff(user, staff, model):
    with pytest.raises(InvalidParameters):
        operations.submit(Wishes(prompt="a red apple", priority=1), owner=user)

    assert operations.submit(Wishes(prompt="a red apple", priority=1), owner=staff).priority == 1


def test_a_waiting_generation_is_cancelled_at_once():
    generation = factories.make_generation()

    assert operations.cancel(generation).status == Status.CANCELLED


def test_a_running_generation_is_asked_to_stop():
    generation = factories.make_generation(status=Status.RUNNING)

    cancelled = operations.cancel(generation)

    assert cancelled.status == Status.RUNNING
    assert cancelled.cancel_requested_at is not None


def test_a_second_cancel_keeps_the_time_of_the_first():
    generation = factories.make_generation(status=Status.RUNNING)
    first = operations.cancel(generation).cancel_requested_at

    assert operations.cancel(generation).cancel_requested_at == first


def test_cancel_of_a_cancelled_generation_is_no_error():
    generation = factories.make_generation(status=Status.CANCELLED)

    assert operations.cancel(generation).status == Status.CANCELLED


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_cancel_of_a_finished_generation_is_refused(status):
    with pytest.raises(AlreadyFinished):
        operations.cancel(factories.make_generation(status=status))


def test_cancel_succeeds_when_the_broker_is_down(dead_broker, django_capture_on_commit_callbacks):
    generation = factories.make_generation(status=Status.RUNNING, dispatch_no=1)

    with django_capture_on_commit_callbacks(execute=True):
        cancelled = operations.cancel(generation)

    assert cancelled.cancel_requested_at is not None


def test_cancel_of_many_ends_what_waits_and_asks_what_runs(model):
    waiting = [factories.make_generation() for _ in range(3)]
    running = factories.make_generation(status=Status.RUNNING)
    done = factories.make_generation(status=Status.SUCCEEDED)

    result = operations.cancel_all(Generation.objects.all())

    assert result == (3, 1)
    assert Generation.objects.filter(pk__in=[row.pk for row in waiting], status=Status.CANCELLED).count() == 3
    running.refresh_from_db()
    assert (running.status, running.cancel_requested_at is not None) == (Status.RUNNING, True)
    assert Generation.objects.get(pk=done.pk).cancel_requested_at is None


def test_cancel_of_more_than_one_batch_ends_all(model, monkeypatch):
    monkeypatch.setattr(operations, "CANCELLED_AT_ONCE", 2)
    for _ in range(5):
        factories.make_generation()

    assert operations.cancel_all(Generation.objects.all()) == (5, 0)


def test_a_retry_is_a_new_generation_with_the_same_seed():
    failed = factories.make_generation(status=Status.FAILED, seed=7, prompt="a green frog")

    again = operations.retry(failed)

    assert again.pk != failed.pk
    assert (again.status, again.seed, again.prompt) == (Status.QUEUED, 7, "a green frog")
    assert again.owner == failed.owner


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.SUCCEEDED])
def test_only_what_failed_or_was_cancelled_can_be_retried(status):
    with pytest.raises(NotRetryable):
        operations.retry(factories.make_generation(status=status))


def test_a_retry_of_what_the_model_no_longer_takes_is_refused(model):
    failed = factories.make_generation(status=Status.FAILED)
    type(model).objects.update(is_enabled=False)

    with pytest.raises(InvalidParameters):
        operations.retry(failed)


def test_delete_removes_what_lost_attempts_had_stored():
    generation = factories.make_generation()
    attempt = generation.claim(device=factories.make_device(), dispatch_no=0)
    files = factories.build_image(generation, attempt)
    generation.lose(attempt, detail="killed after the upload")
    generation.withdraw()

    operations.delete(generation)

    assert not default_storage.exists(files.file.name)
    assert not default_storage.exists(f"generations/{generation.pk}")


def test_delete_removes_the_record_and_the_files():
    generation = factories.make_generation(status=Status.SUCCEEDED)
    image = factories.make_image(generation=generation)
    files = [image.file.name, image.thumbnail.name]

    operations.delete(generation)

    assert not Generation.objects.filter(pk=generation.pk).exists()
    assert not any(default_storage.exists(name) for name in files)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_what_is_not_finished_cannot_be_deleted(status):
    generation = factories.make_generation(status=status)

    with pytest.raises(NotFinished):
        operations.delete(generation)

    assert Generation.objects.filter(pk=generation.pk).exists()


def test_a_cancel_of_many_leaves_word_for_each_webhook(user, model):
    told = factories.make_generation(webhook_url="https://hooks.example.org/", webhook_events=[Kind.FINISHED])
    factories.make_generation()

    assert operations.cancel_all(Generation.objects.all()) == (2, 0)

    assert list(WebhookEvent.objects.values_list("generation", flat=True)) == [told.pk]


def test_one_that_ends_meanwhile_keeps_none_of_the_others_from_being_cancelled(model, monkeypatch):
    hook = {"webhook_url": "https://hooks.example.org/", "webhook_events": [Kind.FINISHED]}
    faster, slower = factories.make_generation(**hook), factories.make_generation(**hook)
    withdraw = Generation.withdraw

    def come_too_late(generation, **how):
        Generation.objects.filter(pk=faster.pk).update(status=Status.SUCCEEDED)
        return withdraw(generation, **how)

    monkeypatch.setattr(Generation, "withdraw", come_too_late)

    assert operations.cancel_all(Generation.objects.all()) == (1, 0)

    slower.refresh_from_db()
    assert slower.status == Status.CANCELLED
