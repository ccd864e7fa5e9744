"""The places where states are kept."""

from uuid import uuid4

import pytest
from django.core.files.storage import default_storage

from generation import saved_states, storage


@pytest.fixture
def generation_id():
    """One whose states leave nothing behind."""
    generation_id = uuid4()
    yield generation_id
    storage.remove_generation(generation_id, saved_states.ROOT)


@pytest.fixture
def no_redis(settings):
    """A RabbitMQ is the broker, and no Redis is named."""
    settings.BROKER_URL = "amqp://guest:guest@rabbitmq//"


def test_a_small_state_is_kept_in_redis_for_a_day(broker, generation_id):
    saved_states.keep(generation_id, b"a state", step=3)

    assert list(saved_states.find(generation_id)) == [b"a state"]
    assert 0 < broker.ttl(saved_states.key(generation_id)) <= saved_states.KEPT_SECONDS
    assert saved_states.steps_on_storage(generation_id) == []


def test_a_large_state_is_kept_on_the_storage(broker, generation_id, monkeypatch):
    monkeypatch.setattr(saved_states, "LARGEST_IN_REDIS", 6)

    saved_states.keep(generation_id, b"a state", step=3)

    assert list(saved_states.find(generation_id)) == [b"a state"]
    assert not broker.exists(saved_states.key(generation_id))


def test_where_hosts_have_no_redis_in_common_it_is_kept_on_the_storage(broker, generation_id, no_redis):
    saved_states.keep(generation_id, b"a state", step=3)

    assert list(saved_states.find(generation_id)) == [b"a state"]
    assert not broker.exists(saved_states.key(generation_id))


def test_while_redis_is_away_it_is_kept_on_the_storage(generation_id, settings):
    settings.REDIS_URL = settings.EVENTS_URL = "redis://127.0.0.1:1/0"

    saved_states.keep(generation_id, b"a state", step=3)

    assert list(saved_states.find(generation_id)) == [b"a state"]


@pytest.fixture(params=["redis", "storage"])
def place(request, broker):
    """Each of the places in turn."""
    if request.param == "storage":
        request.getfixturevalue("no_redis")


def test_a_later_state_takes_the_place_of_an_earlier_one(place, generation_id):
    for step, data in ((3, b"the third"), (12, b"the twelfth")):
        saved_states.keep(generation_id, data, step=step)

    assert list(saved_states.find(generation_id)) == [b"the twelfth"]


def test_a_worker_that_was_paused_does_not_remove_what_another_has_kept_meanwhile(place, generation_id):
    for step, data in ((12, b"the twelfth"), (3, b"the third")):
        saved_states.keep(generation_id, data, step=step)

    assert b"the twelfth" in saved_states.find(generation_id)


def test_nothing_is_found_of_what_was_never_kept(broker, generation_id):
    assert list(saved_states.find(generation_id)) == []


def test_a_storage_that_does_not_answer_has_nothing(broker, generation_id, monkeypatch):
    def refuse(path):
        raise OSError("away")

    saved_states.keep(generation_id, b"a state", step=3)
    monkeypatch.setattr(default_storage, "listdir", refuse)

    assert list(saved_states.find(generation_id)) == [b"a state"]


def test_what_is_forgotten_is_gone_everywhere(broker, generation_id, monkeypatch):
    saved_states.keep(generation_id, b"a state", step=3)
    monkeypatch.setattr(saved_states, "LARGEST_IN_REDIS", 6)
    saved_states.keep(generation_id, b"a state", step=4)

    saved_states.forget(generation_id)

    assert list(saved_states.find(generation_id)) == []
