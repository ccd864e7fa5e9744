"""Where waiting generations stand in the line."""

from uuid import UUID

import pytest

from generation import dispatch
from generation.lifecycle import Status
from generation.models import Generation
from generation.models import positions as module
from generation.models.positions import position_of, set_positions
from tests import factories
from tests.generation.test_line import in_order, submit

pytestmark = pytest.mark.django_db


def positions() -> dict[UUID, int | None]:
    """Those of all generations, counted together."""
    generations = list(Generation.objects.all())
    set_positions(generations)
    return {generation.pk: generation.position for generation in generations}


@pytest.fixture
def every_answer_is_a_mark(monkeypatch) -> None:
    """So that few generations make a long line."""
    monkeypatch.setattr(module, "FAR", 1)


def test_the_position_counts_who_is_ahead_by_priority_and_then_by_age():
    first, second = factories.make_generation(), factories.make_generation()
    urgent = factories.make_generation(priority=1)
    patient = factories.make_generation(priority=-1)
    running = factories.make_generation(status=Status.RUNNING)

    found = positions()

    assert found == {urgent.pk: 1, first.pk: 2, second.pk: 3, patient.pk: 4, running.pk: None}


def test_the_positions_are_the_order_in_which_dispatch_publishes(broker, user, stranger, staff, model):
    factories.make_device()
    for owner, priority in ((user, 0), (user, 0), (user, -1), (stranger, 0), (staff, 1), (stranger, -1), (user, 0)):
        submit(owner, priority=priority)
    dispatch.top_up(model)  # the first of them are at the broker now
    promised = positions()

    published = list(Generation.objects.dispatched().order_by("dispatched_at"))
    while waiting := Generation.objects.undispatched()[:1]:
        published += waiting
        dispatch.publish(published[-1])

    assert [promised[generation.pk] for generation in published] == [1, 2, 3, 4, 5, 6, 7]


def test_one_row_and_the_list_tell_the_same_position(broker, user, stranger, model):
    for owner in (user, user, user, stranger):
        submit(owner)
    dispatch.top_up(model)

    listed = positions()

    assert {row.pk: position_of(row) for row in in_order()} == listed


def test_pinned_ones_stand_in_the_line_of_their_device(user, model):
    mine, other = factories.make_device(index=0), factories.make_device(index=1)
    submit(user)
    pinned = [factories.make_generation(owner=user, pinned_to=device) for device in (mine, other, mine)]

    assert [position_of(generation) for generation in pinned] == [1, 1, 2]


def test_each_model_has_a_line_of_its_own(user, model):
    other = factories.make_model(slug="another")
    first, second = (factories.make_generation(owner=user, model=each) for each in (model, other))

    assert positions() == {first.pk: 1, second.pk: 1}


def test_of_one_that_is_claimed_meanwhile_there_is_no_position(user, model):
    generation = submit(user)
    Generation.objects.update(status=Status.RUNNING)

    assert position_of(generation) is None


@pytest.mark.usefixtures("every_answer_is_a_mark")
def test_far_back_only_what_is_behind_the_last_mark_is_counted_again(user, model):
    line = [factories.make_generation(owner=user) for _ in range(5)]
    position_of(line[2])
    line[0].withdraw()
    line[3].withdraw()

    assert [position_of(generation) for generation in line] == [None, 1, 3, None, 4]


@pytest.mark.usefixtures("every_answer_is_a_mark")
def test_a_mark_holds_for_a_second(user, model, monkeypatch):
    line = [factories.make_generation(owner=user) for _ in range(5)]
    position_of(line[2])
    line[0].withdraw()
    monkeypatch.setattr(module, "MARKS_HOLD_SECONDS", 0.0)

    assert position_of(line[4]) == 4


@pytest.mark.usefixtures("every_answer_is_a_mark")
def test_who_comes_in_before_a_mark_is_counted_exactly(user, model, staff):
    line = [factories.make_generation(owner=user) for _ in range(3)]
    position_of(line[2])

    assert position_of(submit(staff, priority=1)) == 1


def test_near_the_front_nothing_is_remembered(user, model):
    line = [factories.make_generation(owner=user) for _ in range(3)]
    position_of(line[2])
    line[0].withdraw()

    assert position_of(line[2]) == 2
