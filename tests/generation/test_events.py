"""Publishing events, the hub's bookkeeping, and waiting for the end of a generation."""

import asyncio
import logging
import time

import pytest

from generation import operations
from generation.engines.types import Progress
from generation.events import hub as hub_module
from generation.events import listener as listener_module
from generation.events import publisher as publisher_module
from generation.events import streams, waiting
from generation.events.event import Event, EventId, Kind, ReceivedEvent
from generation.events.hub import this_hub
from generation.events.listener import Listener, ListenerClosed, condense
from generation.events.progress import ProgressReport
from generation.events.publisher import Publisher, publisher, tell
from generation.events.waiting import wait_until_finished
from generation.lifecycle import Status
from generation.models import Generation
from tests import factories


def event(kind: Kind = Kind.STATUS, *, owner: str = "1", generation: str = "g", **data) -> Event:
    return Event(owner, kind, generation, data)


def received(number: int, kind: Kind = Kind.STATUS, generation: str = "g") -> ReceivedEvent:
    return ReceivedEvent(EventId(1, number), kind, generation, "{}")


def kinds(broker, owner: str = "1") -> list[str]:
    return [fields[b"kind"].decode() for _, fields in broker.xrange(streams.stream_of(owner))]


# --- The publisher


def test_what_is_published_is_in_the_stream_of_the_owner_and_will_expire(broker):
    own = Publisher()

    own.publish(event(status="here"))
    own.flush(timeout_seconds=5)

    assert kinds(broker) == ["status"]
    assert 0 < broker.ttl(streams.stream_of("1")) <= streams.KEPT_SECONDS


def test_progress_that_nobody_listens_to_is_not_written(broker):
    own = Publisher()

    own.publish(event(Kind.PROGRESS))
    own.flush(timeout_seconds=5)

    assert kinds(broker) == []


def test_of_progress_only_the_newest_is_written(broker, monkeypatch):
    monkeypatch.setattr(publisher_module, "FLEETING_SECONDS", 0.05)
    broker.zadd(streams.listeners(), {"owner:1": time.time() + 60})
    own = Publisher()

    with own._changed:  # the thread cannot take anything in between
        for step in range(1, 11):
            own.publish(event(Kind.PROGRESS, step=step))
    own.flush(timeout_seconds=5)

    entries = broker.xrange(streams.stream_of("1"))
    assert [b'"step": 10' in fields[b"data"] for _, fields in entries] == [True]


def test_a_status_drops_progress_from_before_it(broker):
    broker.zadd(streams.listeners(), {"owner:1": time.time() + 60})
    own = Publisher()

    with own._changed:
        own.publish(event(Kind.PROGRESS))
        own.publish(event(Kind.FINISHED))
    own.flush(timeout_seconds=5)

    assert kinds(broker) == ["finished"]


def test_events_wait_for_a_redis_that_is_away(broker, settings, monkeypatch, caplog):
    monkeypatch.setattr(publisher_module, "PAUSE_AFTER_FAILURE_SECONDS", 0.05)
    own, address = Publisher(), settings.EVENTS_URL
    settings.EVENTS_URL = "redis://127.0.0.1:1/0"
    own.publish(event())
    assert not own.flush(timeout_seconds=0.3)

    settings.EVENTS_URL = address
    own.flush(timeout_seconds=5)

    assert kinds(broker) == ["status"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_events_that_are_too_many_leave_a_gap_that_is_told(broker, monkeypatch):
    monkeypatch.setattr(publisher_module, "MOST_WAITING", 2)
    own = Publisher()

    with own._changed:
        for _ in range(3):
            own.publish(event())
    own.flush(timeout_seconds=5)

    assert kinds(broker) == ["gap", "status", "status"]


@pytest.mark.django_db
def test_progress_tells_how_fast_it_is_and_how_long_it_will_take(user, monkeypatch):
    told: list[Event] = []
    monkeypatch.setattr(publisher, "publish", told.append)
    moments = iter([10.0, 10.5, 11.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    report = ProgressReport(factories.make_generation(owner=user, num_images=2))

    for step in (1, 2, 3):
        report.on_step(Progress(step=step, total=20))

    assert (told[0].data["images_per_second"], told[0].data["eta_seconds"]) == (None, None)
    assert (told[2].data["images_per_second"], told[2].data["eta_seconds"]) == (0.2, 8.5)


# --- Listeners


def test_a_listener_that_is_behind_gets_only_the_newest_progress_of_each_generation():
    async def be_behind() -> list[int]:
        listener = Listener(owner="1", generation=None, after=EventId(0, 0))
        listener.offer(received(1, Kind.PROGRESS, "a"))
        listener.offer(received(2, Kind.PROGRESS, "b"))
        listener.offer(received(3, Kind.STATUS, "a"))
        listener.offer(received(4, Kind.PROGRESS, "a"))
        return [one.id.number for one in await listener.take() or []]

    assert asyncio.run(be_behind()) == [2, 3, 4]


def test_what_was_missed_is_condensed_in_the_same_way():
    events = [received(1, Kind.PROGRESS), received(2), received(3, Kind.PROGRESS)]

    assert [one.id.number for one in condense(events)] == [2, 3]


def test_a_listener_whose_queue_is_full_is_closed(monkeypatch):
    monkeypatch.setattr(listener_module, "MOST_PENDING", 3)

    async def overflow() -> None:
        listener = Listener(owner="1", generation=None, after=EventId(0, 0))
        for number in range(1, 5):
            listener.offer(received(number))
        await listener.take()

    with pytest.raises(ListenerClosed):
        asyncio.run(overflow())


def test_the_task_of_a_listener_that_does_not_notice_is_cancelled(monkeypatch):
    monkeypatch.setattr(listener_module, "GRACE_SECONDS", 0.01)

    async def stuck() -> None:
        Listener(owner="1", generation=None, after=EventId(0, 0)).close()
        await asyncio.Event().wait()  # as a client that reads nothing keeps a response from being sent

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stuck())


# --- Waiting


async def cancel(generation: Generation) -> None:
    await asyncio.to_thread(operations.cancel, generation)


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_when_the_generation_does(broker, user):
    generation = factories.make_generation(owner=user)

    async def wait() -> bool:
        waiter = asyncio.create_task(wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=20))
        await until_listening()
        await cancel(generation)
        return await waiter

    assert asyncio.run(wait()) is True


async def until_listening() -> None:
    while not this_hub()._listeners:
        await asyncio.sleep(0)


@pytest.mark.django_db(transaction=True)
def test_waiting_for_what_is_finished_takes_no_time(broker, user):
    generation = factories.make_generation(owner=user, status=Status.FAILED)

    assert asyncio.run(wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=20)) is True


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_with_its_time(broker, user):
    generation = factories.make_generation(owner=user)

    assert asyncio.run(wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=0.01)) is False


@pytest.mark.django_db(transaction=True)
def test_without_redis_waiting_asks_the_database(user, settings, monkeypatch):
    settings.EVENTS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.01)
    generation = factories.make_generation(owner=user)

    async def wait() -> bool:
        waiter = asyncio.create_task(wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=20))
        await cancel(generation)
        return await waiter

    assert asyncio.run(wait()) is True


@pytest.mark.django_db(transaction=True)
def test_an_end_that_no_event_told_is_found_in_the_database(broker, user, monkeypatch):
    monkeypatch.setattr(hub_module, "ASK_DATABASE_SECONDS", 0.01)
    generation = factories.make_generation(owner=user)

    async def wait() -> bool:
        waiter = asyncio.create_task(wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=20))
        await until_listening()
        await asyncio.to_thread(generation.withdraw)
        return await waiter

    assert asyncio.run(wait()) is True


@pytest.mark.django_db(transaction=True)
def test_listeners_look_at_the_database_after_redis_was_away(broker, user):
    generation = factories.make_generation(owner=user)

    async def lose_redis() -> list | None:
        async with this_hub().listen(user.pk, generation_id=generation.pk) as listener:
            while not (await asyncio.to_thread(broker.info, "clients"))["blocked_clients"]:
                pass  # the hub has not begun to read
            await asyncio.to_thread(broker.client_kill_filter, _type="normal", skipme=True)
            return await listener.take(timeout_seconds=20)

    assert asyncio.run(lose_redis()) is None


@pytest.mark.django_db(transaction=True)
def test_a_gap_makes_listeners_look_at_the_database(broker, user):
    async def hear_of_a_gap() -> list | None:
        async with this_hub().listen(user.pk) as listener:
            publisher.publish(event(Kind.GAP, owner=str(user.pk)))
            return await listener.take(timeout_seconds=20)

    assert asyncio.run(hear_of_a_gap()) is None


@pytest.mark.django_db(transaction=True)
def test_a_hub_keeps_two_users_apart(broker, user, stranger):
    mine, others = factories.make_generation(owner=user), factories.make_generation(owner=stranger)

    async def hear() -> list[str]:
        async with this_hub().listen(user.pk) as my_listener, this_hub().listen(stranger.pk):
            tell(others)
            tell(mine)
            return [one.generation for one in await my_listener.take(timeout_seconds=20) or []]

    assert asyncio.run(hear()) == [str(mine.pk)]


def test_entries_of_a_newer_release_are_passed_over():
    assert ReceivedEvent.read(b"1-1", {b"kind": b"unheard-of", b"generation": b"g", b"data": b"{}"}) is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix:///run/redis.sock?db=2"),
        ("rediss://host/1?ssl_cert_reqs=CERT_NONE", "rediss://host/1?ssl_cert_reqs=NONE"),
        ("redis://one/0;redis://two/0", "redis://one/0"),
    ],
)
def test_celerys_names_become_those_of_the_redis_client(settings, url, address):
    settings.EVENTS_URL = url

    assert streams.address() == address
