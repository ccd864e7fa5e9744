"""GET /api/generations/{id}/events/ and /api/events/"""

import socket
import threading
from contextlib import ExitStack, suppress

import httpx
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from api.events import stream as stream_module
from api.events.views import look_at_all
from api.models import ApiKey, Scope
from generation import operations
from generation.events import hub as hub_module
from generation.events import listener as listener_module
from generation.events.event import Event, Kind, status_event
from generation.events.publisher import publisher, tell
from generation.lifecycle import Status
from generation.models import Generation, GenerationInput, Role
from tests import factories
from tests.serving import opened, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def address(broker):
    with serving() as address:
        yield address


@pytest.fixture
def headers_of():
    """`headers_of(user)` are those of a request with a new key of that user."""

    def make(user, *scopes: str) -> dict[str, str]:
        _, secret = ApiKey.objects.create(user=user, name="test", scopes=list(scopes) or [Scope.READ])
        return {"Authorization": f"Bearer {secret}"}

    return make


def path(generation: Generation) -> str:
    return f"/api/generations/{generation.pk}/events/"


def test_the_first_event_is_the_present_state(address, headers_of, user):
    generation = factories.make_generation(owner=user)

    with opened(address, path(generation), **headers_of(user)) as stream:
        first = stream.next()

    assert first.kind == "snapshot"
    assert (first.data["id"], first.data["status"], first.data["position"]) == (str(generation.pk), "queued", 1)


def test_a_stream_ends_with_its_generation(address, headers_of, user):
    generation = factories.make_generation(owner=user)

    with opened(address, path(generation), **headers_of(user)) as stream:
        stream.next()
        operations.cancel(generation)
        rest = stream.rest()

    assert [(event.kind, event.data["status"]) for event in rest] == [("finished", "cancelled")]


def test_nothing_comes_after_the_end_though_another_process_was_late_to_tell(address, headers_of, user):
    generation, headers = factories.make_generation(owner=user), headers_of(user)
    with opened(address, path(generation), **headers) as stream:
        first = stream.next()
    generation.withdraw()
    publisher.publish(status_event(generation))
    publisher.publish(Event(str(user.pk), Kind.STATUS, str(generation.pk), {"status": "running", "is_stopping": True}))
    publisher.flush(timeout_seconds=5)

    with opened(address, path(generation), last_event_id=first.id, **headers) as stream:
        rest = stream.rest()

    assert [event.kind for event in rest] == ["finished"]
    assert rest[0].id.endswith("/end")


def test_of_a_finished_one_there_is_only_the_end(address, headers_of, user):
    generation = factories.make_generation(owner=user, status=Status.SUCCEEDED)

    with opened(address, path(generation), **headers_of(user)) as stream:
        events = stream.rest()

    assert [(event.kind, event.data["status"]) for event in events] == [
        ("snapshot", "succeeded"),
        ("finished", "succeeded"),
    ]


def test_who_comes_back_hears_exactly_what_was_missed(address, headers_of, user):
    generation, headers = factories.make_generation(owner=user), headers_of(user)
    with opened(address, path(generation), **headers) as stream:
        stream.next()
        tell(generation)
        seen = stream.next()
    generation.status = Status.RUNNING
    tell(generation)
    tell(generation, is_stopping=True)
    publisher.flush(timeout_seconds=5)

    with opened(address, path(generation), last_event_id=seen.id, **headers) as stream:
        missed = [stream.next(), stream.next()]
        operations.cancel(generation)
        generation.refresh_from_db()
        rest = stream.rest()

    assert [(event.kind, event.data.get("is_stopping")) for event in missed] == [("status", False), ("status", True)]
    assert [event.kind for event in rest] == ["finished"]


def test_who_has_heard_the_end_is_told_not_to_come_back(address, headers_of, user):
    generation, headers = factories.make_generation(owner=user), headers_of(user)
    with opened(address, path(generation), **headers) as stream:
        stream.next()
        operations.cancel(generation)
        end = stream.next()

    with opened(address, path(generation), last_event_id=end.id, **headers) as stream:
        status, events = stream.response.status_code, stream.rest()

    assert (status, events) == (204, [])


@pytest.mark.parametrize("made_up", ["1-1", "999999999999999999-0", "nonsense", "1-1-1", "-"])
def test_an_id_that_nobody_knows_gets_a_snapshot(address, headers_of, user, made_up):
    generation, headers = factories.make_generation(owner=user), headers_of(user)
    tell(generation)
    publisher.flush(timeout_seconds=5)

    with opened(address, path(generation), last_event_id=made_up, **headers) as stream:
        first = stream.next()
        operations.cancel(generation)
        rest = stream.rest()

    assert [event.kind for event in (first, *rest)] == ["snapshot", "finished"]


def test_when_redis_has_lost_the_stream_who_comes_back_gets_a_snapshot(address, headers_of, user, broker):
    generation, headers = factories.make_generation(owner=user), headers_of(user)
    with opened(address, path(generation), **headers) as stream:
        first = stream.next()
    broker.flushall()

    with opened(address, path(generation), last_event_id=first.id, **headers) as stream:
        again = stream.next()

    assert (again.kind, again.data["id"]) == ("snapshot", str(generation.pk))


def test_all_of_mine_are_in_one_stream(address, headers_of, user, stranger):
    mine = [factories.make_generation(owner=user) for _ in range(2)]
    factories.make_generation(owner=user, status=Status.SUCCEEDED)
    others = factories.make_generation(owner=stranger)

    with opened(address, "/api/events/", **headers_of(user)) as stream:
        first = stream.next()
        operations.cancel(others)
        for generation in mine:
            operations.cancel(generation)
        ends = [stream.next(), stream.next()]

    assert [shown["id"] for shown in first.data["generations"]] == [str(generation.pk) for generation in mine]
    assert first.data["count"] == 2
    assert [event.data["generation"] for event in ends] == [str(generation.pk) for generation in mine]


def test_a_snapshot_costs_the_same_number_of_queries_however_many_it_shows(user):
    key, _ = ApiKey.objects.create(user=user, name="test")
    request = Request(APIRequestFactory().get("/api/events/"))
    request.user, request.auth = user, key
    costs = []
    for _ in range(2):
        for _ in range(3):
            generation = factories.make_generation(owner=user, has_inputs=True)
            stored = factories.make_input(owner=user)
            GenerationInput.objects.create(generation=generation, role=Role.IMAGE, input=stored, sha256=stored.sha256)
        look_at_all(request)  # what is known for a second costs nothing the next time
        with CaptureQueriesContext(connection) as queries:
            look_at_all(request)
        costs.append(len(queries))

    assert costs[0] == costs[1]


def test_nobody_hears_of_other_generations_in_the_stream_of_one(address, headers_of, user):
    one, other = factories.make_generation(owner=user), factories.make_generation(owner=user)

    with opened(address, path(one), **headers_of(user)) as stream:
        stream.next()
        operations.cancel(other)
        operations.cancel(one)
        rest = stream.rest()

    assert [event.data["generation"] for event in rest] == [str(one.pk)]


def test_to_strangers_there_is_nothing(address, headers_of, user, stranger):
    generation = factories.make_generation(owner=user)

    with opened(address, path(generation), **headers_of(stranger)) as stream:
        response = stream.response

    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json")


def test_staff_may_listen(address, headers_of, user, staff):
    generation = factories.make_generation(owner=user)

    with opened(address, path(generation), **headers_of(staff, Scope.READ, Scope.ADMIN)) as stream:
        stream.next()
        operations.cancel(generation)
        rest = stream.rest()

    assert [event.kind for event in rest] == ["finished"]


@pytest.mark.parametrize("place", ["/api/events/", "/api/generations/019aa000-0000-7000-8000-000000000000/events/"])
def test_anonymous_is_asked_who_they_are(address, place):
    with opened(address, place) as stream:
        response = stream.response

    assert (response.status_code, response.headers["Content-Type"]) == (401, "application/problem+json")


@pytest.mark.parametrize("place", ["/api/events/", "/api/generations/019aa000-0000-7000-8000-000000000000/events/"])
def test_a_key_needs_the_scope_read(address, headers_of, user, place):
    with opened(address, place, **headers_of(user, Scope.GENERATE)) as stream:
        assert stream.response.status_code == 403


def test_who_loses_access_hears_no_more(address, headers_of, user, monkeypatch):
    monkeypatch.setattr(stream_module, "LOOK_AGAIN_SECONDS", 0.0)
    generation, headers = factories.make_generation(owner=user), headers_of(user)

    with opened(address, path(generation), **headers) as stream:
        stream.next()
        ApiKey.objects.all().delete()
        tell(generation)
        rest = stream.rest()

    assert "finished" not in [event.kind for event in rest]


def test_who_logs_out_hears_no_more(address, client_of, user, monkeypatch):
    monkeypatch.setattr(stream_module, "LOOK_AGAIN_SECONDS", 0.0)
    generation, client = factories.make_generation(owner=user), client_of(user)
    cookie = f"sessionid={client.cookies['sessionid'].value}"

    with opened(address, path(generation), Cookie=cookie) as stream:
        stream.next()
        client.logout()
        tell(generation)
        rest = stream.rest()

    assert "finished" not in [event.kind for event in rest]


@pytest.mark.databases("sqlite")  # whoever holds a thread holds it beside either
def test_listeners_cost_no_thread_each(address, headers_of, user):
    headers = headers_of(user)
    of_others = set(threads_of_requests())  # of tests before this one: they end when their executor is collected
    with ExitStack() as stack:
        streams = [stack.enter_context(opened(address, "/api/events/", **headers)) for _ in range(20)]
        first = [stream.next() for stream in streams]

        assert [event.kind for event in first] == 20 * ["snapshot"]
        assert listeners() == 20
        for thread in threads_of_requests() - of_others:  # one that is about to end has not ended yet
            with suppress(RuntimeError):  # it is only just beginning
                thread.join(timeout=1.0)
        assert len(threads_of_requests() - of_others) < 5


def threads_of_requests() -> set[threading.Thread]:
    """The threads that requests have."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}


def seats(broker) -> int:
    return sum(broker.zcard(key) for key in broker.keys("pictor:seats:*"))


def test_who_has_as_many_streams_open_as_allowed_is_told_to_wait(address, headers_of, user, settings):
    settings.MAX_EVENT_STREAMS_PER_USER = 1
    headers = headers_of(user)

    with opened(address, "/api/events/", **headers) as stream:
        stream.next()
        refused = httpx.get(f"{address}{path(factories.make_generation(owner=user))}", headers=headers, trust_env=False)

    assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/problem+json")
    assert (refused.json()["code"], refused.json()["violated-policies"]) == ("limit_reached", ["event-streams"])
    assert refused.headers["Retry-After"] == "5"


def test_a_stream_that_has_ended_makes_room_for_another(address, headers_of, user, settings, broker):
    settings.MAX_EVENT_STREAMS_PER_USER = 1
    headers = headers_of(user)
    with opened(address, "/api/events/", **headers) as stream:
        stream.next()

    while seats(broker):
        pass

    with opened(address, "/api/events/", **headers) as stream:
        assert stream.next().kind == "snapshot"


def test_a_key_may_have_fewer_streams_than_its_user(address, user, broker):
    _, secret = ApiKey.objects.create(user=user, name="test", max_event_streams=1)
    headers = {"Authorization": f"Bearer {secret}"}

    with opened(address, "/api/events/", **headers) as stream:
        stream.next()
        refused = httpx.get(f"{address}/api/events/", headers=headers, trust_env=False)

    assert refused.json()["violated-policies"] == ["key-event-streams"]


def test_an_open_stream_keeps_its_seat_for_longer_than_it_is_known(
    address, headers_of, user, settings, broker, monkeypatch
):
    settings.MAX_EVENT_STREAMS_PER_USER = 1
    monkeypatch.setattr(hub_module, "NOTE_LISTENERS_SECONDS", 0.01)
    headers = headers_of(user)

    with opened(address, "/api/events/", **headers) as stream:
        stream.next()
        broker.delete(*broker.keys("pictor:seats:*"))
        while not seats(broker):
            pass
        refused = httpx.get(f"{address}/api/events/", headers=headers, trust_env=False)

    assert refused.status_code == 429


def test_head_opens_no_stream(address, headers_of, user):
    response = httpx.head(f"{address}/api/events/", headers=headers_of(user), trust_env=False)

    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")


def test_without_redis_the_answer_is_a_problem_that_says_so(address, headers_of, user, settings):
    settings.EVENTS_URL = "redis://127.0.0.1:1/0"
    generation = factories.make_generation(owner=user)

    response = httpx.get(address + path(generation), headers=headers_of(user), trust_env=False)

    assert (response.status_code, response.json()["code"]) == (503, "events_unavailable")


def test_servers_that_cannot_stream_say_so(client_of, user):
    response = client_of(user).get("/api/events/")

    assert (response.status_code, response.json()["code"]) == (503, "events_unavailable")


def test_a_listener_that_reads_nothing_is_dropped_and_harms_nobody(address, headers_of, user, monkeypatch):
    monkeypatch.setattr(listener_module, "MOST_PENDING", 10)
    monkeypatch.setattr(listener_module, "GRACE_SECONDS", 0.1)
    key = headers_of(user)["Authorization"]
    url = httpx.URL(address)
    with (
        socket.create_connection((url.host, url.port)) as stuck,
        opened(address, "/api/events/", **headers_of(user)) as stream,
    ):
        stuck.sendall(f"GET /api/events/ HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: {key}\r\n\r\n".encode())
        assert stuck.recv(1)
        stream.next()
        while listeners() < 2:
            pass  # the stuck one has its answer, but does not listen yet

        told = 0
        while listeners() == 2:  # until the buffers of the system are full
            told += 1
            publisher.publish(Event(str(user.pk), Kind.STATUS, "", {"number": told, "padding": 100_000 * "."}))
            assert stream.next().data["number"] == told


def listeners() -> int:
    """How many listeners the hubs of this process have."""
    return sum(len(of_owner) for hub in list(hub_module._hubs.values()) for of_owner in hub._listeners.values())
