"""The chores on the storage."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import randbits
from uuid import UUID

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models.functions import Now

from generation import cleaning, saved_states, storage
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, DailyUsage, Generation, GenerationInput, Input, Role
from tests import factories

pytestmark = pytest.mark.django_db


def make_old(**fields) -> Generation:
    """A succeeded generation of ten days ago, with a stored image."""
    generation = factories.make_generation(status=Status.SUCCEEDED, **fields)
    factories.make_image(generation=generation)
    Generation.objects.filter(pk=generation.pk).update(finished_at=Now() - timedelta(days=10))
    return generation


def files_of(generation: Generation) -> list[str]:
    return [name for image in generation.images.all() for name in (image.file.name, image.thumbnail.name)]


def test_files_of_a_lost_attempt_are_removed_after_an_hour(model):
    generation = factories.make_generation()
    attempt = generation.claim(device=factories.make_device(), dispatch_no=0)
    name = default_storage.save(f"{storage.folder(attempt)}/0.png", ContentFile(b"half a picture"))
    attempt.close(Outcome.LOST)

    cleaning.remove_stray_files()
    assert default_storage.exists(name)

    Attempt.objects.update(ended_at=Now() - timedelta(hours=2))
    assert cleaning.remove_stray_files() == 1
    assert not default_storage.exists(name)
    assert cleaning.remove_stray_files() == 0


def test_files_of_the_attempt_that_succeeded_are_kept(model):
    generation = factories.make_generation(status=Status.SUCCEEDED)
    image = factories.make_image(generation=generation)
    Attempt.objects.update(outcome=Outcome.SUCCEEDED, ended_at=Now() - timedelta(hours=2))

    cleaning.remove_stray_files()

    assert default_storage.exists(image.file.name)


def test_results_are_kept_for_ever_unless_a_setting_says_otherwise(model):
    make_old()

    assert cleaning.expire_results() == 0


def test_old_results_go_with_files_and_rows(model, settings):
    settings.RETENTION_DAYS = 7
    files = files_of(make_old())

    assert cleaning.expire_results() == 1
    assert not Generation.objects.exists()
    assert not any(default_storage.exists(name) for name in files)


def test_or_only_the_images_go_and_the_row_says_when(model, settings):
    settings.RETENTION_DAYS = 7
    settings.RETENTION_REMOVES = "images"
    files = files_of(make_old())

    assert cleaning.expire_results() == 1
    assert cleaning.expire_results() == 0
    generation = Generation.objects.get()
    assert (generation.expired_at is not None, generation.images.count()) == (True, 0)
    assert not any(default_storage.exists(name) for name in files)


def test_what_is_not_old_enough_stays(model, settings):
    settings.RETENTION_DAYS = 11
    make_old()

    assert cleaning.expire_results() == 0


def test_what_the_storage_keeps_for_now_keeps_its_row(model, settings, monkeypatch):
    settings.RETENTION_DAYS = 7
    make_old()

    def refuse(name):
        raise OSError("away")

    monkeypatch.setattr(default_storage, "delete", refuse)

    assert cleaning.expire_results() == 0
    assert Generation.objects.count() == 1


def folder_of(generation_id: UUID) -> Path:
    """A folder with a file, as a worker leaves it whose generation is deleted meanwhile."""
    name = default_storage.save(f"generations/{generation_id}/1-token/0.png", ContentFile(b"half a picture"))
    return Path(default_storage.path(name)).parent.parent


def uuid_of(moment: datetime) -> UUID:
    """A UUID of version 7 of that time."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | randbits(60))


def test_a_folder_without_a_row_is_removed(model):
    orphan = folder_of(uuid_of(datetime.now(UTC) - timedelta(hours=2)))
    kept = make_old()

    walk = cleaning.Walk()
    for _ in range(100):  # a round goes no further than a batch, and other tests have left folders too
        cleaning.remove_orphans(walk)

    assert not orphan.exists()
    assert all(default_storage.exists(name) for name in files_of(kept))


def test_a_folder_that_is_young_is_left_alone(model):
    young = folder_of(uuid_of(datetime.now(UTC)))

    cleaning.remove_orphans(walk := cleaning.Walk())
    cleaning.remove_orphans(walk)

    assert young.exists()


def test_the_walk_goes_on_where_it_stopped_and_then_rests(model):
    folders = {folder_of(uuid_of(datetime.now(UTC))).name for _ in range(3)}
    walk = cleaning.Walk()

    seen = [str(found) for _ in range(1000) for found in walk.next_ids(2)]

    assert folders <= set(seen)
    assert len(seen) == len(set(seen)), "each once: the next round is for the next day"


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

    assert cleaning.remove_expired_inputs() == 1

    assert list(Input.objects.all()) == [young]
    assert not default_storage.exists(old.file.name)


def test_an_input_that_a_generation_has_stays_and_is_looked_at_again_later(model, user):
    stored = factories.make_input(expires_at=over())
    used(stored)

    assert cleaning.remove_expired_inputs() == 0

    assert default_storage.exists(stored.file.name)
    assert not Input.objects.expired().exists()


def test_an_input_goes_after_the_last_generation_that_had_it(model, user):
    stored = factories.make_input(expires_at=over())
    generation = used(stored)
    generation.delete()

    assert cleaning.remove_expired_inputs() == 1


def test_an_input_whose_file_cannot_be_removed_is_tried_again(monkeypatch, user):
    factories.make_input(expires_at=over())

    def refuse(name):
        raise OSError("away")

    with monkeypatch.context() as away:
        away.setattr(default_storage, "delete", refuse)
        assert cleaning.remove_expired_inputs() == 0

    assert cleaning.remove_expired_inputs() == 1


def test_an_upload_that_never_came_to_its_end_goes_too(user):
    factories.make_input(stored_at=None, expires_at=over())

    assert cleaning.remove_expired_inputs() == 1


def test_states_of_what_has_ended_or_gone_are_removed(model, settings):
    settings.BROKER_URL = "amqp://guest:guest@rabbitmq//"  # so that they are files
    waiting, ended = factories.make_generation(), factories.make_generation(status=Status.SUCCEEDED)
    gone = UUID(int=7)
    for generation_id in (waiting.pk, ended.pk, gone):
        saved_states.keep(generation_id, b"a state", step=3)

    cleaning.remove_states(walk := cleaning.Walk(saved_states.ROOT))
    removed = cleaning.remove_states(walk)

    assert removed >= 2, "other tests may have left some too"
    assert [list(saved_states.find(key)) for key in (waiting.pk, ended.pk, gone)] == [[b"a state"], [], []]
    storage.remove_generation(waiting.pk, saved_states.ROOT)


def test_states_in_redis_of_what_has_ended_do_not_wait_for_its_clock(broker, model):
    waiting, ended = factories.make_generation(), factories.make_generation(status=Status.FAILED)
    for generation in (waiting, ended):
        saved_states.keep(generation.pk, b"a state", step=3)

    cleaning.remove_states(walk := cleaning.Walk(all_ids=saved_states.generations_in_redis))
    removed = cleaning.remove_states(walk)

    assert removed == 1
    assert [list(saved_states.find(one.pk)) for one in (waiting, ended)] == [[b"a state"], []]


def test_what_was_used_before_yesterday_is_forgotten(user, stranger):
    today = datetime.now(UTC).date()
    for owner, days_ago in ((user, 3), (stranger, 2), (user, 1), (user, 0)):
        DailyUsage.objects.create(owner=owner, day=today - timedelta(days=days_ago), pixel_steps=1)

    assert cleaning.forget_usage() == 2
    assert DailyUsage.objects.count() == 2
