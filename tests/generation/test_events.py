"""Publishing events, the hub's bookkeeping, and waiting for the end of a generation."""

import asyncio
import json
import logging
import time
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import Future
from io import BytesIO

import numpy as np
import pytest
from django.db.models import Q
from PIL import Image as Picture

from generation import operations
from generation.engines.types import Progress
from generation.events import hub as hub_module
from generation.events import listener as listener_module
from generation.events import positions as positions_module
from generation.events import progress as progress_module
from generation.events import publisher as publisher_module
from generation.events import streams, waiting
from generation.events.event import Event, EventId, Kind, ReceivedEvent
from generation.events.hub import this_hub
from generation.events.listener import Listener, ListenerClosed, condense
from generation.events.positions import Positions
from generation.events.progress import ProgressReport
from generation.events.publisher import Publisher, publisher, tell
from generation.events.waiting import wait_until_finished
from generation.lifecycle import Status
from generation.models import Generation
from generation.models.positions import position_of
from tests import factories
from tests.fakes import RedPreview


@pytest.fixture(autouse=True)
def a_preview_may_be_drawn(monkeypatch):
    """Whatever another test has drawn just now."""
    monkeypatch.setattr(progress_module, "_next_preview_at", 0.0)


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


def test_events_that_come_with_progress_wait_for_redis_too(broker, settings, monkeypatch):
    monkeypatch.setattr(publisher_module, "PAUSE_AFTER_FAILURE_SECONDS", 0.05)
    own, address = Publisher(), settings.EVENTS_URL
    settings.EVENTS_URL = "redis://127.0.0.1:1/0"
    with own._changed:
        own.publish(event(generation="one"))
        own.publish(event(Kind.PROGRESS, generation="another"))
    assert not own.flush(timeout_seconds=0.3)

    settings.EVENTS_URL = address
    own.flush(timeout_seconds=5)

    assert kinds(broker) == ["status"]


def test_an_event_that_cannot_be_written_leaves_a_gap_and_holds_up_nobody(broker, monkeypatch):
    monkeypatch.setattr(publisher_module, "PAUSE_AFTER_FAILURE_SECONDS", 0.05)
    own = Publisher()

    own.publish(event(broken=object()))
    own.flush(timeout_seconds=5)
    own.publish(event(owner="2"))
    own.flush(timeout_seconds=5)

    assert (kinds(broker), kinds(broker, "2")) == (["gap"], ["status"])


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


def test_what_comes_after_a_gap_is_not_forgotten():
    async def hear() -> list:
        listener = Listener(owner="1", generation=None, after=EventId(0, 0))
        listener.offer(received(1, Kind.GAP, ""))
        listener.offer(received(2))
        return [await listener.take(timeout_seconds=5), await listener.take(timeout_seconds=5)]

    assert asyncio.run(hear()) == [None, [received(2)]]


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


# --- Previews


class Drawing(RedPreview):
    """One that is still being drawn, by a thread that waits for `pixels`."""

    def __init__(self) -> None:
        self.pixels: Future[np.ndarray] = Future()

    def start_preview(self) -> Callable[[], np.ndarray]:
        """What comes of it."""
        return self.pixels.result

    def finish(self) -> None:
        """It is drawn."""
        self.pixels.set_result(RedPreview().start_preview()())


@pytest.fixture
def heard(broker, monkeypatch):
    """`heard(name, ...)` has it known that these are listened to."""
    monkeypatch.setattr(publisher_module, "LOOK_FOR_LISTENERS_SECONDS", 0.0)

    def note(*names: str) -> None:
        broker.delete(streams.listeners())
        broker.zadd(streams.listeners(), dict.fromkeys(names, time.time() + 60))
        publisher.ask_who_listens()
        assert publisher.flush(timeout_seconds=5)

    return note


def shown(broker, user) -> list[tuple[str, dict]]:
    """Kind and data of what was published about the user's generations, once all previews are drawn."""
    for _ in range(progress_module.PREVIEWS_AT_ONCE):
        assert progress_module._free.acquire(timeout=20)
    for _ in range(progress_module.PREVIEWS_AT_ONCE):
        progress_module._free.release()
    assert publisher.flush(timeout_seconds=5)
    entries = broker.xrange(streams.stream_of(str(user.pk)))
    return [(fields[b"kind"].decode(), json.loads(fields[b"data"])) for _, fields in entries]


@pytest.mark.django_db
def test_who_listens_gets_a_preview(broker, user, heard):
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")

    ProgressReport(generation).on_step(Progress(step=3, total=20, offers=RedPreview()))

    assert ("preview", {"generation": str(generation.pk), "step": 3, "total": 20}) in shown(broker, user)
    image = Picture.open(BytesIO(broker.get(streams.preview_of(str(generation.pk)))))
    assert (image.format, image.size) == ("WEBP", (256, 256))
    assert broker.ttl(streams.preview_of(str(generation.pk))) > 0


@pytest.mark.django_db(transaction=True)
def test_a_preview_reaches_the_listener_as_an_address_that_shows_it(broker, user, heard):
    generation = factories.make_generation(owner=user)

    async def hear() -> ReceivedEvent:
        async with this_hub().listen(user.pk, generation_id=generation.pk) as listener:
            await asyncio.to_thread(heard, f"generation:{generation.pk}")
            ProgressReport(generation).on_step(Progress(step=3, total=20, offers=RedPreview()))
            while True:
                for one in await listener.take(timeout_seconds=20) or []:
                    if one.kind == Kind.PREVIEW:
                        return one

    kind, _, data = json.loads(asyncio.run(hear()).data)["image"].partition(",")
    assert kind == "data:image/webp;base64"
    assert Picture.open(BytesIO(b64decode(data))).size == (256, 256)


@pytest.mark.django_db
def test_there_are_no_previews_for_nobody(broker, user, heard):
    generation = factories.make_generation(owner=user)
    heard("generation:another")

    ProgressReport(generation).on_step(Progress(step=3, total=20, offers=RedPreview()))

    assert "preview" not in [kind for kind, _ in shown(broker, user)]
    assert broker.keys(streams.preview_of("*")) == []


@pytest.mark.django_db
def test_previews_can_be_switched_off(broker, user, heard, settings):
    settings.PREVIEWS = False
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")

    ProgressReport(generation).on_step(Progress(step=3, total=20, offers=RedPreview()))

    assert [kind for kind, _ in shown(broker, user)] == ["progress"]


@pytest.mark.django_db
def test_a_preview_that_cannot_be_drawn_ends_nothing(broker, user, heard, caplog):
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")
    report = ProgressReport(generation)

    class Broken(RedPreview):
        def start_preview(self) -> Callable[[], np.ndarray]:
            raise RuntimeError("This device draws nothing.")

    report.on_step(Progress(step=3, total=20, offers=Broken()))

    assert [kind for kind, _ in shown(broker, user)] == ["progress"]
    assert "draws nothing" in caplog.text


@pytest.mark.django_db
def test_a_generation_that_had_to_wait_has_previews_later(broker, user, heard):
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")
    report = ProgressReport(generation)

    report.on_step(Progress(step=0, total=20))
    report.on_step(Progress(step=3, total=20, offers=RedPreview()))

    assert "preview" in [kind for kind, _ in shown(broker, user)]


@pytest.mark.django_db
def test_no_step_waits_for_its_preview(broker, user, heard):
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")
    drawing = Drawing()

    ProgressReport(generation).on_step(Progress(step=3, total=20, offers=drawing))

    drawing.finish()
    assert "preview" in [kind for kind, _ in shown(broker, user)]


@pytest.mark.django_db
def test_a_preview_that_comes_after_the_end_is_not_told(broker, user, heard):
    generation = factories.make_generation(owner=user)
    heard(f"generation:{generation.pk}")
    report, drawing = ProgressReport(generation), Drawing()
    report.on_step(Progress(step=3, total=20, offers=drawing))

    report.end()
    drawing.finish()

    assert [kind for kind, _ in shown(broker, user)] == ["progress"]


@pytest.mark.django_db
def test_while_previews_take_long_no_more_are_begun(broker, user, heard, monkeypatch):
    monkeypatch.setattr(progress_module, "PREVIEWS_APART_SECONDS", 0.0)
    generations = [factories.make_generation(owner=user) for _ in range(progress_module.PREVIEWS_AT_ONCE + 1)]
    heard(f"owner:{user.pk}")
    drawings = [Drawing() for _ in generations]

    for generation, drawing in zip(generations, drawings, strict=True):
        ProgressReport(generation).on_step(Progress(step=3, total=20, offers=drawing))

    for drawing in drawings:
        drawing.finish()
    assert [kind for kind, _ in shown(broker, user)].count("preview") == len(generations) - 1


# --- Positions


@pytest.mark.django_db
def test_listeners_hear_where_their_waiting_generations_are(broker, user, stranger, heard):
    generations = [factories.make_generation(owner=owner) for owner in (stranger, user, user)]
    heard(f"owner:{user.pk}")

    Positions().tell_changes()

    places = [(kind, data["generation"], data["position"]) for kind, data in shown(broker, user)]
    assert places == [("position", str(generations[1].pk), 2), ("position", str(generations[2].pk), 3)]
    assert shown(broker, stranger) == []


@pytest.mark.django_db
def test_only_positions_that_have_changed_are_told(broker, user, stranger, heard):
    first, second = factories.make_generation(owner=stranger), factories.make_generation(owner=user)
    heard(f"generation:{second.pk}")
    positions = Positions()

    told = [positions.tell_changes(), positions.tell_changes()]
    first.withdraw()
    told.append(positions.tell_changes())

    assert told == [1, 0, 1]
    assert shown(broker, user)[-1] == ("position", {"generation": str(second.pk), "position": 1})


@pytest.mark.django_db
def test_of_very_many_only_those_near_the_front_are_told(broker, user, heard, monkeypatch):
    monkeypatch.setattr(positions_module, "MOST_OF_AN_OWNER", 2)
    generations = [factories.make_generation(owner=user) for _ in range(4)]
    heard(f"owner:{user.pk}", f"generation:{generations[3].pk}")

    Positions().tell_changes()

    assert [data["position"] for _, data in shown(broker, user)] == [1, 2, 4]


@pytest.mark.django_db
def test_priority_and_the_device_count_as_they_do_in_the_line(user):
    model = factories.make_model()
    device = factories.make_device()
    late = factories.make_generation(owner=user, model=model, priority=-1)
    pinned = factories.make_generation(owner=user, model=model, pinned_to=device)
    usual = factories.make_generation(owner=user, model=model)
    other = factories.make_generation(owner=user, model=factories.make_model(slug="another"))
    factories.make_generation(owner=user, model=model, status=Status.RUNNING)

    line = Generation.objects.in_line(Q(owner=user))

    places = {generation.pk: generation.position for generation in line}
    assert places == {late.pk: 2, pinned.pk: 1, usual.pk: 1, other.pk: 1}
    assert places == {one.pk: position_of(one) for one in (late, pinned, usual, other)}


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

    for step in range(100):  # whatever it is about then: asking Redis, asking the database, listening
        waiting_ends = wait_until_finished(generation.pk, owner_id=user.pk, timeout_seconds=step * 0.0001)
        assert asyncio.run(waiting_ends) is False


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
