"""What is published, to which queue, and what a dead broker means."""

import base64
import json
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from api.models import ApiKey
from generation import dispatch
from generation.lifecycle import Status
from generation.models import Generation, UserLimits
from tests import factories

pytestmark = pytest.mark.django_db


def messages(broker, queue: str) -> list[list[object]]:
    """The arguments of every message in a queue, the next one to be delivered first."""
    bodies = [json.loads(raw)["body"] for raw in broker.lrange(f"pictor:{queue}", 0, -1)]
    return [json.loads(base64.b64decode(body))[0] for body in reversed(bodies)]


def test_a_message_holds_the_id_and_the_dispatch_number_and_nothing_else(broker, model):
    generation = factories.make_generation(prompt="canary")

    dispatch.publish(generation)

    assert messages(broker, f"model.{model.slug}") == [[str(generation.pk), 1]]
    assert b"canary" not in broker.lrange(f"pictor:model.{model.slug}", 0, -1)[0]


def test_a_pinned_generation_goes_to_the_queue_of_its_device(broker, model):
    device = factories.make_device(host="rack7", index=3)
    generation = factories.make_generation(pinned_to=device)

    dispatch.publish(generation)

    assert messages(broker, f"device.rack7.{device.label}") == [[str(generation.pk), 1]]


def test_the_broker_holds_twice_as_many_messages_as_slots(broker, model):
    factories.make_device(index=0)
    factories.make_device(index=1)
    for _ in range(6):
        factories.make_generation()

    assert dispatch.top_up(model) == 4
    assert len(messages(broker, f"model.{model.slug}")) == 4
    assert dispatch.top_up(model) == 0


def test_silent_and_drained_devices_do_not_widen_the_window(model):
    factories.make_device(index=0, is_drained=True)
    silent = factories.make_device(index=1)
    type(silent).objects.filter(pk=silent.pk).update(heartbeat_at=Now() - timedelta(minutes=5))

    assert dispatch.window(model) == dispatch.SMALLEST_WINDOW


def test_priority_goes_before_age(broker, model):
    factories.make_generation(priority=-1)
    normal = factories.make_generation()
    urgent = factories.make_generation(priority=1)

    dispatch.top_up(model)

    assert messages(broker, f"model.{model.slug}") == [[str(urgent.pk), 1], [str(normal.pk), 1]]


def test_a_broker_that_is_down_leaves_the_generation_waiting(dead_broker, model):
    generation = factories.make_generation()

    assert dispatch.top_up(model) == 0

    generation.refresh_from_db()
    assert (generation.status, generation.dispatched_at) == (Status.QUEUED, None)


def test_after_a_failure_the_broker_is_left_alone_for_a_while(dead_broker, model):
    first, second = factories.make_generation(), factories.make_generation()

    dispatch.top_up(model)
    dispatch.top_up(model)

    tried = Generation.objects.filter(dispatch_no__gt=0)
    assert list(tried) == [first]
    assert second.dispatch_no == 0


def test_a_generation_that_no_longer_waits_is_not_published(broker, model):
    generation = factories.make_generation()
    Generation.objects.get(pk=generation.pk).withdraw()

    assert not dispatch.publish(generation)
    assert messages(broker, f"model.{model.slug}") == []


def test_a_pinned_generation_does_not_wait_behind_a_full_window(broker, model):
    for _ in range(5):
        factories.make_generation()
    dispatch.top_up(model)
    device = factories.make_device()
    generation = factories.make_generation(pinned_to=device)

    dispatch.send_off(generation)

    assert messages(broker, f"device.here.{device.label}") == [[str(generation.pk), 1]]


# --- Limits on what runs


def published(broker, model) -> list[object]:
    return [arguments[0] for arguments in messages(broker, f"model.{model.slug}")]


def test_who_has_as_many_at_work_as_allowed_is_passed_by_the_next(broker, model, user, stranger, settings):
    settings.MAX_RUNNING_PER_USER = 1
    factories.make_device(slots=2)
    first, _, _ = (factories.make_generation(owner=user) for _ in range(3))
    other = factories.make_generation(owner=stranger)

    assert dispatch.top_up(model) == 2
    assert published(broker, model) == [str(first.pk), str(other.pk)]
    assert dispatch.top_up(model) == 0


def test_the_next_one_goes_when_one_has_ended(broker, model, user, settings):
    settings.MAX_RUNNING_PER_USER = 1
    first, second = (factories.make_generation(owner=user) for _ in range(2))
    dispatch.top_up(model)
    Generation.objects.get(pk=first.pk).withdraw()

    assert dispatch.top_up(model) == 1
    assert published(broker, model) == [str(first.pk), str(second.pk)]


def test_what_runs_counts_as_what_is_at_the_broker(broker, model, user, settings):
    settings.MAX_RUNNING_PER_USER = 1
    factories.make_generation(owner=user, status=Status.RUNNING)
    factories.make_generation(owner=user)

    assert dispatch.top_up(model) == 0


def test_a_row_of_limits_counts_instead_of_the_settings(broker, model, user, stranger, settings):
    settings.MAX_RUNNING_PER_USER = 1
    UserLimits.objects.create(user=user, max_running=0)
    for owner in (user, user, stranger, stranger):
        factories.make_generation(owner=owner)
    factories.make_device(slots=2)

    assert dispatch.top_up(model) == 3


def test_a_key_may_have_a_limit_of_its_own(broker, model, user):
    key, _ = ApiKey.objects.create(user=user, name="nightly", max_running=1)
    first, _ = (factories.make_generation(owner=user, api_key=key.token_key) for _ in range(2))
    by_hand = factories.make_generation(owner=user)

    dispatch.top_up(model)

    assert published(broker, model) == [str(first.pk), str(by_hand.pk)]


def test_a_message_that_is_made_anew_is_not_in_its_own_way(broker, model, user, settings):
    settings.MAX_RUNNING_PER_USER = 1
    generation = factories.make_generation(owner=user)
    dispatch.top_up(model)

    assert dispatch.publish(Generation.objects.get(pk=generation.pk))


def test_a_pinned_one_is_held_back_too(broker, model, user, settings):
    settings.MAX_RUNNING_PER_USER = 1
    factories.make_generation(owner=user, status=Status.RUNNING)
    generation = factories.make_generation(owner=user, pinned_to=factories.make_device())

    assert not dispatch.publish(generation)


def test_a_new_one_need_not_look_whether_there_is_room_if_there_was_none_a_moment_ago(
    broker, model, user, django_assert_num_queries
):
    for _ in range(3):
        factories.make_generation(owner=user)
    dispatch.top_up(model)
    dispatch.top_up(model)
    generation = factories.make_generation(owner=user)

    with django_assert_num_queries(0):
        dispatch.send_off(generation)


def test_a_broker_that_refuses_is_given_up_without_a_sleep(dead_broker, monkeypatch):
    slept = []
    monkeypatch.setattr("kombu.utils.functional.sleep", slept.append)

    assert not dispatch.can_reach_broker()

    assert slept == []
