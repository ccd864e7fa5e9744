"""The checker of histories finds what it is there to find."""

from datetime import date

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from generation.lifecycle import Outcome, Status
from generation.models import Attempt, DailyUsage, Generation
from tests import factories
from tests.faults import history

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_storage(settings, tmp_path):
    """A storage that holds nothing of other tests."""
    settings.MEDIA_ROOT = tmp_path


def rules() -> set[str]:
    """The rules that are broken."""
    return {sentence.partition(":")[0] for sentence in history.violations()}


def make_succeeded(**fields) -> Generation:
    """A generation whose history is as it should be."""
    generation = factories.make_generation(status=Status.SUCCEEDED, **fields)
    factories.make_image(generation=generation)
    return generation


def test_a_history_without_fault_breaks_no_rule(model):
    make_succeeded()
    factories.make_generation(status=Status.CANCELLED)

    assert rules() == set()


def test_what_never_ended_breaks_the_first_rule(model):
    factories.make_generation()

    assert rules() == {"I1"}


def test_a_missing_image_and_a_broken_file_break_the_second(model):
    make_succeeded(num_images=2)
    broken = make_succeeded()
    name = broken.images.get().file.name
    default_storage.delete(name)
    default_storage.save(name, ContentFile(b"half a picture"))

    assert len([sentence for sentence in history.violations() if sentence.startswith("I2")]) == 2


def test_an_image_of_one_that_failed_breaks_the_third(model):
    Generation.objects.filter(pk=make_succeeded().pk).update(status=Status.FAILED)
    Attempt.objects.update(outcome=Outcome.FAILED)

    assert "I3" in rules()


def test_a_fourth_run_breaks_the_fourth(model):
    generation = factories.make_generation(status=Status.FAILED)
    for _ in range(4):
        factories.make_attempt(generation=generation, outcome=Outcome.LOST)

    assert rules() == {"I4"}


def test_two_successful_attempts_break_the_fifth(model):
    factories.make_attempt(generation=make_succeeded(), outcome=Outcome.SUCCEEDED)

    assert rules() == {"I5"}


def test_a_file_that_belongs_to_nothing_breaks_the_sixth(model):
    default_storage.save("generations/nobody/1-token/0.png", ContentFile(b"half a picture"))

    assert rules() == {"I6"}


def test_what_is_counted_and_was_not_accepted_breaks_the_seventh(model):
    generation = make_succeeded()
    DailyUsage.objects.create(owner=generation.owner, day=date(2026, 1, 1), pixel_steps=generation.pixel_steps + 1)

    assert rules() == {"I7"}


def test_an_end_that_nobody_is_told_of_breaks_the_eighth(model):
    make_succeeded(webhook_url="https://example.com/", webhook_events=["finished"])

    assert rules() == {"I8"}
