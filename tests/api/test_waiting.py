"""Prefer: wait, on a real server: the answer that waits, and the client that hangs up."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from django.db import connection

from api.models import ApiKey
from generation import operations
from generation.events.publisher import tell
from generation.lifecycle import CancelReason, Status
from generation.models import Attempt, Generation
from tests import factories
from tests.serving import serving

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/generations/"
APPLE = {"prompt": "a red apple"}


@pytest.fixture
def server(broker, user, model):
    """A client of a running server, with ada's key."""
    _, key = ApiKey.objects.create(user=user, name="test")
    with (
        serving() as address,
        httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        ) as client,
    ):
        yield client


@pytest.fixture
def later():
    """`later(do)` does something in a thread of its own while the test waits for an answer."""

    def apart(do, *arguments):
        try:
            return do(*arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        futures = []

        def begin(do, *arguments):
            futures.append(threads.submit(apart, do, *arguments))
            return futures[-1]

        yield begin
    for future in futures:
        future.result()


def wait_until(is_so) -> None:
    """Look until it is so; what has to happen first happens in the server's threads."""
    pause = threading.Event()
    while not is_so():
        pause.wait(0.01)


def claim(generation: Generation) -> Attempt:
    """Claim it, whichever of its dispatches is the latest by now."""
    device = factories.make_device()
    while not (attempt := generation.claim(device=device, dispatch_no=generation.dispatch_no)):
        generation.refresh_from_db()
    return attempt


def finish(status: Status) -> None:
    """Give the one generation its end, as a worker would, once it is there."""
    wait_until(lambda: Generation.objects.exists())
    generation = Generation.objects.get()
    if status == Status.CANCELLED:
        operations.cancel(generation)
        return
    attempt = claim(generation)
    if status == Status.FAILED:
        generation.fail(attempt, code="out_of_memory", detail="Too large.")
    else:
        generation.succeed(attempt, images=[])
    tell(generation)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_an_answer_that_waits_is_the_finished_generation(server, later, status):
    later(finish, status)

    response = server.post(URL, json=APPLE, headers={"Prefer": "wait=20"})

    assert (response.status_code, response.json()["status"]) == (200, status)
    assert response.headers["Preference-Applied"] == "wait=20"
    assert response.headers["Location"] == response.json()["links"]["self"]
    assert response.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in response.headers


def test_when_time_runs_out_the_answer_says_where_to_look(server):
    response = server.post(URL, json=APPLE, headers={"Prefer": "respond-async, wait=1"})

    assert (response.status_code, response.json()["status"]) == (202, Status.QUEUED)
    assert response.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    ("prefer", "applied"), [("respond-async", "respond-async"), ("return=minimal, wait=soon", None)]
)
def test_other_preferences_are_answered_at_once(server, prefer, applied):
    response = server.post(URL, json=APPLE, headers={"Prefer": prefer})

    assert response.status_code == 202
    assert response.headers.get("Preference-Applied") == applied


def test_a_look_at_a_generation_can_wait_for_its_end_too(server, user, later):
    generation = factories.make_generation(owner=user)
    later(finish, Status.SUCCEEDED)

    response = server.get(f"{URL}{generation.pk}/", headers={"Prefer": "wait=20"})

    assert (response.status_code, response.json()["status"]) == (200, Status.SUCCEEDED)


def test_what_has_ended_is_answered_at_once(server, user):
    generation = factories.make_generation(owner=user, status=Status.FAILED)

    response = server.get(f"{URL}{generation.pk}/", headers={"Prefer": "wait"})

    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=60")


def test_a_put_can_wait(server, later):
    later(finish, Status.SUCCEEDED)

    response = server.put(f"{URL}{uuid4()}/", json=APPLE, headers={"Prefer": "wait=20"})

    assert (response.status_code, response.json()["status"]) == (200, Status.SUCCEEDED)


def test_a_put_that_waited_in_vain_says_so_however_often(server):
    pk = uuid4()

    answers = [server.put(f"{URL}{pk}/", json=APPLE, headers={"Prefer": "wait=1"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]


def test_a_retry_under_the_same_key_waits_for_the_same_generation(server, later):
    headers = {"Prefer": "wait=20", "Idempotency-Key": '"once"'}
    first = later(lambda: server.post(URL, json=APPLE, headers=headers))
    wait_until(lambda: Generation.objects.exists())
    second = later(lambda: server.post(URL, json=APPLE, headers=headers))
    finish(Status.SUCCEEDED)

    answers = [first.result(), second.result()]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1


def hang_up_while_waiting(client: httpx.Client, **wishes: str) -> None:
    """Post, and close the connection while the answer is held back."""
    with pytest.raises(httpx.ReadTimeout):
        client.post(URL, json=APPLE | wishes, headers={"Prefer": "wait=30"}, timeout=httpx.Timeout(10, read=1))


def test_a_client_that_hangs_up_changes_nothing(server):
    hang_up_while_waiting(server)

    later_one = server.post(URL, json=APPLE)
    assert later_one.json()["position"] == 2
    assert Generation.objects.filter(cancel_requested_at=None).count() == 2


def test_a_client_that_hangs_up_may_have_asked_for_a_cancel(server):
    hang_up_while_waiting(server, on_disconnect="cancel")

    wait_until(lambda: Generation.objects.get().status == Status.CANCELLED)
    assert Generation.objects.get().cancel_reason == CancelReason.DISCONNECT


def test_a_running_one_is_asked_to_stop(server, later):
    def start():
        wait_until(lambda: Generation.objects.exists())
        claim(Generation.objects.get())

    later(start)
    hang_up_while_waiting(server, on_disconnect="cancel")

    wait_until(lambda: Generation.objects.get().cancel_requested_at is not None)
    assert Generation.objects.get().cancel_reason == CancelReason.DISCONNECT


def test_another_word_for_it_is_refused(server):
    response = server.post(URL, json=APPLE | {"on_disconnect": "panic"})

    assert response.json()["errors"][0]["pointer"] == "/on_disconnect"


@pytest.mark.databases("sqlite")  # whoever holds a thread holds it beside either
def test_many_that_wait_hold_no_thread_each(server, later):

    def extra() -> int:
        return threading.active_count() - before - 30

    before = threading.active_count()
    with ThreadPoolExecutor(30) as threads:
        waiting = [
            threads.submit(lambda: server.post(URL, json=APPLE, headers={"Prefer": "wait=5"}, timeout=30))
            for _ in range(30)
        ]
        wait_until(lambda: Generation.objects.count() == 30)
        wait_until(lambda: extra() < 15 or any(answer.done() for answer in waiting))
        all_still_wait = not any(answer.done() for answer in waiting)
        answers = [future.result().status_code for future in waiting]

    assert all_still_wait
    assert answers == [202] * 30
