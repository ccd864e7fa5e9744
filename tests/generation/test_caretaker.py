"""Workers stand in for a housekeeper that is not there."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from generation import caretaker
from generation.caretaker import Caretaker
from generation.management.commands import housekeeper
from generation.models import Housekeeper

pytestmark = pytest.mark.django_db


@pytest.fixture
def rounds(monkeypatch) -> list[bool]:
    """What counts the rounds of chores."""
    done: list[bool] = []
    monkeypatch.setattr(caretaker, "do_chores", lambda: done.append(True))
    return done


def test_without_a_housekeeper_the_chores_are_done(rounds):
    Caretaker().look()

    assert rounds == [True]


def test_with_one_they_are_left_to_it(rounds):
    Housekeeper.objects.sign("here")

    Caretaker().look()

    assert rounds == []


def test_one_that_fell_silent_is_missed(rounds):
    Housekeeper.objects.sign("here")
    Housekeeper.objects.update(seen_at=Now() - timedelta(minutes=1))

    Caretaker().look()

    assert rounds == [True]


def test_the_housekeeper_shows_that_it_is_there(monkeypatch):
    class OneRound:
        """An event that is set after the first wait."""

        def __init__(self) -> None:
            self.answers = iter([False, True])

        def wait(self, timeout: float) -> bool:
            return next(self.answers)

        def set(self) -> None:
            """Nothing waits."""

    monkeypatch.setattr(housekeeper, "Event", OneRound)
    monkeypatch.setattr(housekeeper, "do_chores", lambda: None)
    monkeypatch.setattr(housekeeper.signal, "signal", lambda number, handler: None)

    call_command("housekeeper")

    assert Housekeeper.objects.alive(within=timedelta(seconds=10)).exists()
