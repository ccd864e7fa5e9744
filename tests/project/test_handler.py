"""What the ASGI handler does with answers that take long."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
from django.conf import settings as pictor
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.urls import path

from api.held import HeldResponse
from api.models import ApiKey
from tests.ports import free_port
from tests.serving import opened, serving

pytestmark = pytest.mark.django_db(transaction=True)


def held(request: HttpRequest) -> HeldResponse:
    own_thread = threading.current_thread()

    async def settle(response: HeldResponse) -> None:
        await asyncio.to_thread(own_thread.join, 10)
        response.content = b"The thread has ended." if not own_thread.is_alive() else b"The thread waits too."

    return HeldResponse(b"Not yet.", settle=settle)


def large(request: HttpRequest) -> HttpResponse:
    connection.ensure_connection()
    connections_used.append(connections["default"])
    return HttpResponse(b"x" * 32 * 1024 * 1024)


connections_used: list[BaseDatabaseWrapper] = []
urlpatterns = [path("health/live", held), path("held/", held), path("large/", large)]


def test_while_an_answer_is_held_back_its_thread_is_not(settings):
    settings.ROOT_URLCONF = __name__

    with serving() as address:
        response = httpx.get(f"{address}/held/", trust_env=False)

    assert response.text == "The thread has ended."


def test_who_reads_slowly_holds_no_connection_to_the_database(settings):
    settings.ROOT_URLCONF = __name__
    connections_used.clear()

    with serving() as address, httpx.stream("GET", f"{address}/large/", trust_env=False):
        while not connections_used or connections_used[0].connection is not None:
            pass

    assert connections_used[0].connection is None


def test_where_nobody_can_wait_it_is_sent_as_it_is(settings, client):
    settings.ROOT_URLCONF = __name__

    assert client.get("/held/").content == b"Not yet."


@contextmanager
def web_process():
    """uvicorn in a process of its own, on the test's database; it would wait a minute for open streams."""
    name = pictor.DATABASES["default"]["NAME"]
    url = os.environ.get("DATABASE_URL", "").replace("/postgres?", f"/{name}?") or f"sqlite:///{name}"
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "project.asgi:application", "--port", str(port), "--lifespan", "off"]
    process = subprocess.Popen(
        [*command, "--timeout-graceful-shutdown", "60", "--log-level", "warning"],
        cwd=pictor.BASE_DIR,
        env=os.environ | {"DATABASE_URL": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:  # backs off: half a minute in all
            client.get(f"{address}/health/live").raise_for_status()
        yield process, address
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_stops_at_once_though_somebody_listens(broker, user, number):
    _, key = ApiKey.objects.create(user=user, name="test")

    with web_process() as (process, address):
        with opened(address, "/api/events/", Authorization=f"Bearer {key}") as stream:
            stream.next()
            process.send_signal(number)
            rest = stream.rest()
        _, log = process.communicate(timeout=30)

    assert (rest, log) == ([], "")
