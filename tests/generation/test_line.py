"""Whose turn comes when, where one stands, and how long it takes."""

from datetime import datetime, timedelta
from itertools import groupby

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from generation import housekeeping, line, operations, pace
from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Device, Generation
from generation.models.positions import position_of
from generation.pace import Pace, Seconds
from generation.parameters import Wishes
from generation.terms import Asked
from tests import factories

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.get_default_timezone())
SECOND = timedelta(seconds=1)
PACE = Pace(slots=2, mean=10.0, spread=3.0, per_work=Seconds(5.0, 8.0))


def submit(owner, **wishes) -> Generation:
    return operations.submit(Wishes(prompt="a red apple", **wishes), owner=owner)


def in_order() -> list[Generation]:
    return list(Generation.objects.queued().select_related("owner"))


def run_lately(model, *, seconds: float, count: int = 1, device: Device | None = None) -> None:
    """Succeeded generations of the model's usual size that took so long."""
    for _ in range(count):
        generation = factories.make_generation(model=model, status=Status.SUCCEEDED)
        attempt = factories.make_attempt(generation=generation, device=device, outcome=Outcome.SUCCEEDED)
        ended_at = attempt.started_at + timedelta(seconds=seconds)
        Attempt.objects.filter(pk=attempt.pk).update(ended_at=ended_at)


def test_who_has_nothing_in_the_line_goes_in_at_its_front():
    turn = line.turn(now=NOON, next_turn=NOON - SECOND, last_turn=None, has_one_waiting=False, length=SECOND)

    assert turn == NOON - SECOND


def test_in_an_empty_line_the_turn_is_now():
    assert line.turn(now=NOON, next_turn=None, last_turn=None, has_one_waiting=False, length=SECOND) == NOON


def test_who_waits_already_goes_behind_its_own_last_one():
    last = NOON + 50 * SECOND

    turn = line.turn(now=NOON, next_turn=NOON, last_turn=last, has_one_waiting=True, length=10 * SECOND)

    assert turn == NOON + 60 * SECOND


def test_what_was_used_of_late_counts_for_a_few_generations_only():
    last = NOON + 5000 * SECOND

    turn = line.turn(now=NOON, next_turn=NOON, last_turn=last, has_one_waiting=False, length=10 * SECOND)

    assert turn == NOON + line.MOST_DEBT * 10 * SECOND


def test_what_was_used_long_ago_does_not_count():
    turn = line.turn(now=NOON, next_turn=None, last_turn=NOON - 99 * SECOND, has_one_waiting=False, length=SECOND)

    assert turn == NOON


def test_many_of_one_owner_delay_a_single_one_of_another_by_one(user, stranger, model):
    for _ in range(30):
        submit(user)

    single = submit(stranger)

    assert in_order().index(single) <= 1
    assert position_of(single) <= 2


def test_a_batch_of_one_owner_delays_a_single_one_of_another_by_one(user, stranger, model):
    requests = [Asked(Wishes(prompt=f"an apple, {number}")) for number in range(20)]
    batch = operations.submit_batch(requests, owner=user)
    theirs = submit(stranger)

    line_up = in_order()

    assert [generation.pk for generation in line_up].index(theirs.pk) <= 1
    own = [generation.prompt for generation in line_up if generation.batch_id == batch.pk]
    assert own == [request.wishes.prompt for request in requests]


def test_owners_who_both_want_many_take_turns(user, stranger, model):
    for owner in (user, stranger):
        for _ in range(6):
            submit(owner)

    runs = [len(list(group)) for _, group in groupby(in_order(), key=lambda generation: generation.owner)]

    assert sum(runs) == 12
    assert max(runs) <= 2


def test_of_two_who_want_one_each_goes_first_who_has_used_less_of_late(user, stranger, model):
    factories.make_generation(owner=user, status=Status.RUNNING, turn_at=Now())
    first, second = submit(user), submit(stranger)

    assert in_order() == [second, first]


def test_large_generations_use_up_more_of_the_share_than_small_ones(user, stranger, model):
    for _ in range(4):
        submit(user, num_inference_steps=10)
        submit(stranger, num_inference_steps=40)

    front = in_order()[:5]

    assert sum(generation.owner == user for generation in front) == 4


def test_priority_goes_before_any_share(user, staff, model):
    submit(user)
    for _ in range(3):
        urgent = submit(staff, priority=1)

    assert in_order()[2] == urgent


def test_what_is_cancelled_while_it_waits_does_not_count_as_used(user, model):
    for _ in range(20):
        submit(user).withdraw()

    assert submit(user).turn_at - timezone.now() < SECOND


def test_who_has_waited_too_long_gets_one_before_all_others(user, staff, model, settings):
    settings.LONGEST_WAIT_SECONDS = 600
    patient = [submit(user, priority=-1) for _ in range(3)]
    submit(staff, priority=1)
    Generation.objects.filter(owner=user).update(created_at=Now() - timedelta(minutes=11))

    assert housekeeping.hurry_starving() == 1
    assert housekeeping.hurry_starving() == 0
    assert in_order()[0] == patient[0]


def test_the_next_one_of_who_waits_too_long_follows_when_the_time_is_over_again(user, model, settings):
    settings.LONGEST_WAIT_SECONDS = 600
    for _ in range(3):
        submit(user)
    Generation.objects.update(created_at=Now() - timedelta(minutes=30))
    housekeeping.hurry_starving()
    Generation.objects.filter(rank=line.HURRIED).update(turn_at=Now() - timedelta(minutes=11))

    assert housekeeping.hurry_starving() == 1


def test_a_run_that_went_on_from_a_saved_step_says_nothing_about_the_pace(user, model):
    factories.make_device()
    ran = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    factories.make_attempt(generation=ran, outcome=Outcome.SUCCEEDED, resumed_from_step=19)

    assert pace.measure(model.pk) is None


def test_without_a_measured_run_there_is_no_estimate(user, model):
    factories.make_device()
    generation = submit(user)
    generation.position = 1

    assert line.estimate(generation) is None


def test_an_estimate_follows_from_the_position_and_the_measured_runs(user, model):
    factories.make_device(slots=1)
    run_lately(model, seconds=10, count=3)
    generation = factories.make_generation(owner=user)
    generation.position = 6

    found = line.estimate(generation)

    assert found.starts_in.p50 == pytest.approx(50)
    assert found.finishes_in.p50 == pytest.approx(60)


def test_more_slots_shorten_the_wait(user, model):
    factories.make_device(slots=5)
    run_lately(model, seconds=10)
    generation = factories.make_generation(owner=user)
    generation.position = 10

    assert line.estimate(generation).starts_in.p50 == pytest.approx(10)


def test_a_device_that_takes_fewer_at_once_than_it_has_slots_counts_with_those(user, model):
    factories.make_device(slots=24, facts={model.slug: {"at_once": 2}})
    run_lately(model, seconds=10)

    assert pace.pace_of(model.pk).slots == 2


def test_where_runs_took_several_places_fewer_go_side_by_side(user, model):
    usual = model.default_width * model.default_height // 4
    device = factories.make_device(slots=24, facts={model.slug: {"at_once": 9, "pixels": usual}})
    run_lately(model, seconds=10, device=device)

    assert pace.pace_of(model.pk).slots == 2


def test_what_finds_a_free_slot_starts_at_once():
    assert line.wait_for(PACE, ahead=0, running=1) == Seconds(0, 0)


def test_runs_of_different_lengths_make_the_wait_less_certain():
    wait = line.wait_for(PACE, ahead=8, running=2)

    assert wait.p50 == pytest.approx(45)
    assert wait.p90 > wait.p50


def test_of_a_running_one_the_steps_that_are_done_count(user, model):
    factories.make_device()
    run_lately(model, seconds=10)
    generation = factories.make_generation(owner=user, status=Status.RUNNING, num_inference_steps=20, step=15)
    generation.position = None

    found = line.estimate(generation)

    assert (found.starts_in.p50, found.finishes_in.p50) == (0, pytest.approx(2.5))
