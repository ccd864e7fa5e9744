"""The chores that repair what died."""

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models.functions import Now

from generation import dispatch, housekeeping, storage
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Generation, GenerationInput, Input, Role
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


def test_files_of_a_lost_attempt_are_removed_after_an_hour(model):
    generation = factories.make_generation()
    attempt = generation.claim(device=factories.make_device(), dispatch_no=0)
    name = default_storage.save(f"{storage.folder(attempt)}/0.png", ContentFile(b"half a picture"))
    attempt.close(Outcome.LOST)

    housekeeping.remove_stray_files()
    assert default_storage.exists(name)

    Attempt.objects.update(ended_at=Now() - timedelta(hours=2))
    assert housekeeping.remove_stray_files() == 1
    assert not default_storage.exists(name)
    assert housekeeping.remove_stray_files() == 0


def test_files_of_the_attempt_that_succeeded_are_kept(model):
    generation = factories.make_generation(status=Status.SUCCEEDED)
    image = factories.make_image(generation=generation)
    Attempt.objects.update(outcome=Outcome.SUCCEEDED, ended_at=Now() - timedelta(hours=2))

    housekeeping.remove_stray_files()

    assert default_storage.exists(image.file.name)


def used(stored: Input) -> Generation:
    """A generation that begins with it."""
    generation = factories.make_generation(has_inputs=True)
    GenerationInput.objects.create(generation=generation, role=Role.IMAGE, input=stored, sha256=stored.sha256)
    return generation


def over() -> Now:
    """An end that was a minute ago."""
    return Now() - timedelta(minutes=1)


def test_an_input_that_nobody_used_goes_with_its_file_when_its_time_is_over(user):
    old, young = factories.make_input(expires_at=over()), factories.make_input()

    assert housekeeping.remove_expired_inputs() == 1

    assert list(Input.objects.all()) == [young]
    assert not default_storage.exists(old.file.name)


def test_an_input_that_a_generation_has_stays_and_is_looked_at_again_later(model, user):
    stored = factories.make_input(expires_at=over())
    used(stored)

    assert housekeeping.remove_expired_inputs() == 0

    assert default_storage.exists(stored.file.name)
    assert not Input.objects.expired().exists()


def test_an_input_goes_after_the_last_generation_that_had_it(model, user):
    stored = factories.make_input(expires_at=over())
    generation = used(stored)
    generation.delete()

    assert housekeeping.remove_expired_inputs() == 1


def test_an_input_whose_file_cannot_be_removed_is_tried_again(monkeypatch, user):
    factories.make_input(expires_at=over())

    def refuse(name):
        raise OSError("away")

    with monkeypatch.context() as away:
        away.setattr(default_storage, "delete", refuse)
        assert housekeeping.remove_expired_inputs() == 0

    assert housekeeping.remove_expired_inputs() == 1


def test_an_upload_that_never_came_to_its_end_goes_too(user):
    factories.make_input(stored_at=None, expires_at=over())

    assert housekeeping.remove_expired_inputs() == 1
