"""Limits of users, keys and the whole service, where generations are created."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from generation import admission, operations
from generation.errors import GenerationError, LimitReached, ServiceFull
from generation.lifecycle import Outcome, Status
from generation.models import Batch, DailyUsage, Generation, UserLimits
from generation.parameters import Wishes, resolve
from generation.quotas import Credential, Limits
from generation.submission import LARGEST_BATCH
from generation.terms import Asked
from tests import factories

APPLE = Wishes(prompt="a red apple", num_inference_steps=10, width=128, height=128)
ITS_PIXEL_STEPS = 10 * 128 * 128

pytestmark = pytest.mark.django_db


def key(name: str = "pictor_11111111", **limits: int) -> Credential:
    return Credential(name, Limits(**limits))


def refusal(**options) -> LimitReached:
    with pytest.raises(LimitReached) as raised:
        operations.submit(APPLE, **options)
    return raised.value


def test_one_more_than_may_wait_is_refused_and_not_stored(user, model, settings):
    settings.MAX_WAITING_PER_USER = 2
    for _ in range(2):
        operations.submit(APPLE, owner=user)

    error = refusal(owner=user)

    assert [quota.policy for quota in error.exceeded] == ["waiting"]
    assert Generation.objects.count() == 2


def test_what_others_have_waiting_does_not_count(user, stranger, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    operations.submit(APPLE, owner=stranger)

    assert operations.submit(APPLE, owner=user).status == Status.QUEUED


def test_what_runs_or_has_ended_does_not_wait(user, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    for status in (Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
        factories.make_generation(owner=user, status=status)

    assert operations.submit(APPLE, owner=user).status == Status.QUEUED


def test_what_waits_and_what_runs_count_as_unfinished(user, model, settings):
    settings.MAX_UNFINISHED_PER_USER = 2
    factories.make_generation(owner=user, status=Status.RUNNING)
    operations.submit(APPLE, owner=user)

    assert [quota.policy for quota in refusal(owner=user).exceeded] == ["unfinished"]


def test_a_row_of_a_user_counts_instead_of_the_settings(user, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    UserLimits.objects.create(user=user, max_waiting=2)
    operations.submit(APPLE, owner=user)

    assert operations.submit(APPLE, owner=user).status == Status.QUEUED
    assert refusal(owner=user).exceeded[0].limit == 2


def test_zero_in_a_row_of_a_user_means_no_limit(user, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    UserLimits.objects.create(user=user, max_waiting=0)
    operations.submit(APPLE, owner=user)

    assert operations.submit(APPLE, owner=user).status == Status.QUEUED


def test_a_key_has_limits_of_its_own_beside_those_of_its_user(user, model):
    operations.submit(APPLE, owner=user, credential=key(waiting=1))

    error = refusal(owner=user, credential=key(waiting=1))

    assert [quota.policy for quota in error.exceeded] == ["key-waiting"]
    assert operations.submit(APPLE, owner=user, credential=key("pictor_22222222", waiting=1)).status == Status.QUEUED
    assert operations.submit(APPLE, owner=user).status == Status.QUEUED


def test_pixel_steps_are_counted_by_the_day_and_stay_counted_when_the_generation_goes(user, model, settings):
    settings.MAX_PIXEL_STEPS_PER_DAY = int(1.5 * ITS_PIXEL_STEPS)
    generation = operations.submit(APPLE, owner=user)
    operations.delete(operations.cancel(generation))

    error = refusal(owner=user)

    assert [quota.policy for quota in error.exceeded] == ["pixel-steps-per-day"]
    assert error.retry_after_seconds == pytest.approx(admission.seconds_until_midnight(timezone.now()), abs=5)


def test_a_refused_one_uses_nothing_up(user, model, settings):
    settings.MAX_PIXEL_STEPS_PER_DAY = int(1.5 * ITS_PIXEL_STEPS)
    operations.submit(APPLE, owner=user)
    for _ in range(3):
        refusal(owner=user)

    assert DailyUsage.objects.get().pixel_steps == ITS_PIXEL_STEPS


def test_yesterday_does_not_count_today(user, model, settings):
    settings.MAX_PIXEL_STEPS_PER_DAY = ITS_PIXEL_STEPS
    yesterday = timezone.now().astimezone(UTC).date() - timedelta(days=1)
    DailyUsage.objects.create(owner=user, day=yesterday, pixel_steps=ITS_PIXEL_STEPS)

    assert operations.submit(APPLE, owner=user).status == Status.QUEUED


def test_pixel_steps_of_a_key_are_its_own(user, model):
    operations.submit(APPLE, owner=user, credential=key(pixel_steps_per_day=ITS_PIXEL_STEPS))

    error = refusal(owner=user, credential=key(pixel_steps_per_day=ITS_PIXEL_STEPS))

    assert [quota.policy for quota in error.exceeded] == ["key-pixel-steps-per-day"]


def test_who_asks_for_more_than_the_whole_limit_is_not_told_to_wait(user, model, settings):
    settings.MAX_PIXEL_STEPS_PER_DAY = ITS_PIXEL_STEPS - 1

    error = refusal(owner=user)

    assert error.retry_after_seconds is None
    assert "Ask for less" in str(error)


def test_many_at_once_need_a_place_each(user, model, settings):
    settings.MAX_WAITING_PER_USER = 3
    asked = [resolve(APPLE, draw_seed=lambda: 1)] * 4

    with pytest.raises(LimitReached):
        admission.admit(asked, owner=user)

    (quota,) = admission.admit(asked[:3], owner=user)
    assert quota.remaining == 0


def test_the_wait_follows_from_the_line_and_from_how_long_runs_take(user, stranger, model, settings):
    settings.MAX_WAITING_PER_USER = 1
    now = timezone.now()
    done = factories.make_generation(owner=stranger, status=Status.SUCCEEDED)
    factories.make_attempt(
        generation=done, outcome=Outcome.SUCCEEDED, started_at=now - timedelta(seconds=30), ended_at=now
    )
    factories.make_device(slots=2)
    for _ in range(3):
        factories.make_generation(owner=stranger)
    Generation.objects.filter(owner=stranger).update(turn_at=now - timedelta(hours=1))
    operations.submit(APPLE, owner=user)

    assert refusal(owner=user).retry_after_seconds == 4 * 30 / 2


def test_the_wait_for_a_running_one_follows_from_its_progress(user, model, settings):
    settings.MAX_UNFINISHED_PER_USER = 1
    factories.make_device()
    now = timezone.now()
    done = factories.make_generation(owner=user, status=Status.SUCCEEDED)
    factories.make_attempt(
        generation=done, outcome=Outcome.SUCCEEDED, started_at=now - timedelta(seconds=40), ended_at=now
    )
    factories.make_generation(owner=user, status=Status.RUNNING, step=15)  # of 20

    assert refusal(owner=user).retry_after_seconds == 10


def test_a_day_ends_at_midnight_utc():
    almost = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)

    assert admission.seconds_until_midnight(almost) == 30


def test_a_full_service_takes_nobodys(user, stranger, model, settings):
    settings.MAX_WAITING = 1
    operations.submit(APPLE, owner=stranger)

    with pytest.raises(ServiceFull) as raised:
        operations.submit(APPLE, owner=user)

    assert raised.value.retry_after_seconds >= 1
    assert Generation.objects.count() == 1


def test_without_limits_nothing_is_counted(user, model, settings, django_assert_num_queries):
    settings.MAX_WAITING_PER_USER = settings.MAX_WAITING = 0
    parameters = resolve(APPLE, draw_seed=lambda: 1)
    user = User.objects.select_related("limits_row").get(pk=user.pk)

    with django_assert_num_queries(0):
        assert admission.admit([parameters], owner=user) == ()


THREADS = 8


def submit_one(user: User) -> Generation:
    return operations.submit(APPLE, owner=user)


def submit_batch(user: User) -> Batch:
    return operations.submit_batch([Asked(APPLE)] * LARGEST_BATCH, owner=user)


def at_once(
    users: list[User], *, ask: Callable[[User], Generation | Batch] = submit_one
) -> list[GenerationError | Generation | Batch]:
    """Each asks once, all at the same moment, on a connection each."""
    barrier = Barrier(len(users))

    def do(user: User) -> GenerationError | Generation | Batch:
        barrier.wait()
        try:
            return ask(user)
        except GenerationError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(users)) as threads:
        return list(threads.map(do, users))


@pytest.mark.django_db(transaction=True)
def test_of_requests_that_race_only_as_many_get_through_as_there_is_room_for(user, model, settings, broker):
    settings.MAX_WAITING_PER_USER = 3

    answers = at_once([user] * THREADS)

    refused = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert (len(refused), Generation.objects.count()) == (THREADS - 3, 3)


@pytest.mark.django_db(transaction=True)
def test_of_batches_that_race_only_as_many_get_through_as_there_is_room_for(user, model, settings, broker):
    settings.MAX_WAITING_PER_USER = admission.MARGIN + LARGEST_BATCH  # as far from it as is far for single ones

    answers = at_once([user] * THREADS, ask=submit_batch)

    refused = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert (len(refused), Generation.objects.count()) == (THREADS - 6, 600)


@pytest.mark.django_db(transaction=True)
def test_batches_that_race_cannot_overfill_the_service(model, settings, broker):
    settings.MAX_WAITING = admission.MARGIN + LARGEST_BATCH + 1
    users = [factories.make_user(username=f"user{number}") for number in range(THREADS)]

    answers = at_once(users, ask=submit_batch)

    full = [answer for answer in answers if isinstance(answer, ServiceFull)]
    assert (len(full), Generation.objects.count()) == (THREADS - 6, 600)


@pytest.mark.django_db(transaction=True)
def test_racing_requests_cannot_overdraw_the_day(user, model, settings, broker):
    settings.MAX_PIXEL_STEPS_PER_DAY = 3 * ITS_PIXEL_STEPS

    at_once([user] * THREADS)

    assert Generation.objects.count() == 3
    assert DailyUsage.objects.get().pixel_steps == 3 * ITS_PIXEL_STEPS


@pytest.mark.django_db(transaction=True)
def test_users_that_race_cannot_overfill_the_service(model, settings, broker):
    settings.MAX_WAITING = 3
    users = [factories.make_user(username=f"user{number}") for number in range(THREADS)]

    answers = at_once(users)

    full = [answer for answer in answers if isinstance(answer, ServiceFull)]
    assert (len(full), Generation.objects.count()) == (THREADS - 3, 3)
