"""The Valkey that Pictor brings along, really started."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from django.conf import settings as pictor
from redis import Redis

from project import embedded_redis
from project.child import Patience
from project.secrets import UnsafeFolder
from project.supervisor import Supervisor
from tests.project.recording import RecordingLog


@pytest.fixture
def socket(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"
    settings.EMBEDDED_REDIS_SOCKET = tmp_path / "data" / "redis" / "redis.sock"
    return settings.EMBEDDED_REDIS_SOCKET


def while_it_runs(work: Callable[[Supervisor], Awaitable[None]]) -> RecordingLog:
    """Start the server, do `work`, stop the server."""

    async def run() -> RecordingLog:
        log = RecordingLog()

        async def scenario(supervisor: Supervisor) -> None:
            await supervisor.start(embedded_redis.redis_spec())
            await work(supervisor)

        await Supervisor(log, patience=Patience(first_pause_seconds=0.01, poll_seconds=0.01)).run(scenario)
        return log

    return asyncio.run(run())


def test_it_listens_on_its_socket_and_nowhere_else(socket):
    found = {}

    async def look(_: Supervisor) -> None:
        with Redis(unix_socket_path=str(socket)) as client:
            found.update(client.config_get("port", "maxmemory-policy"))

    while_it_runs(look)

    assert found == {"port": "0", "maxmemory-policy": "noeviction"}


def test_what_it_holds_survives_a_restart(socket):
    found = []

    async def write(_: Supervisor) -> None:
        with Redis(unix_socket_path=str(socket)) as client:
            client.set("generation", "queued")

    async def read(_: Supervisor) -> None:
        with Redis(unix_socket_path=str(socket)) as client:
            found.append(client.get("generation"))

    while_it_runs(write)
    while_it_runs(read)

    assert found == [b"queued"]


def test_only_the_owner_may_enter_its_folder(socket):
    modes = []

    async def look(_: Supervisor) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in (socket.parent, socket))

    while_it_runs(look)

    assert modes == [0o700, 0o700]


def test_a_server_that_was_left_behind_makes_room(socket):
    """Two servers on one append-only file would ruin it."""
    found = []

    async def start_another(_: Supervisor) -> None:
        with Redis(unix_socket_path=str(socket)) as client:
            first = client.info("server")["process_id"]
        is_ready = await embedded_redis.watch(socket)
        while not await is_ready():
            await asyncio.sleep(0.01)
        with Redis(unix_socket_path=str(socket)) as client:
            found.append(client.info("server")["process_id"] != first)

    while_it_runs(start_another)

    assert found == [True]


def test_nothing_is_said_when_all_is_well(socket):
    async def nothing(_: Supervisor) -> None:
        pass

    log = while_it_runs(nothing)

    assert [text for _, text in log.lines if not text.startswith("ready after")] == []
    assert log.problems == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(socket):
    socket.parent.mkdir(parents=True)
    os.chown(socket.parent, 65534, 65534)

    with pytest.raises(UnsafeFolder, match="belongs to another user"):
        embedded_redis.redis_spec()


def test_it_is_wanted_unless_the_settings_name_another(settings):
    wanted = embedded_redis.is_wanted()
    settings.EVENTS_URL = "redis://redis.example:6379/0"

    assert (wanted, embedded_redis.is_wanted()) == (True, False)


def test_beside_rabbitmq_it_is_there_for_live_events_only():
    url = {"BROKER_URL": "amqp://user:password@broker.example//"}
    code = "from project import embedded_redis; print(embedded_redis.is_wanted(), embedded_redis.is_broker())"

    result = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=pictor.BASE_DIR,
        env=os.environ | url,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.split() == ["True", "False"]


def test_a_deep_data_folder_gets_a_short_socket_path(settings):
    path: Path = settings.EMBEDDED_REDIS_SOCKET

    assert len(str(path)) <= 107
