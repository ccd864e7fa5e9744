"""The chores that repair what died."""

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models.functions import Now

from generation import dispatch, housekeeping, storage
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Generation
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
