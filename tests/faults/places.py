"""The broker and the database of a cluster, each with a proxy before it that can cut it off."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

from amqp.exceptions import ResourceLocked
from kombu import Connection
from kombu.utils.functional import retry_over_time

from tests.faults.proxy import Proxy
from tests.faults.redis_server import RedisServer

Settings = dict[str, str]


def redis_through_proxy(folder: Path, *, address: str) -> tuple[Settings, Proxy, RedisServer]:
    """A Redis of its own."""
    server = RedisServer(folder / "redis")
    proxy = Proxy(("127.0.0.1", server.port), address=address)
    return {"REDIS_URL": f"redis://{address}:{proxy.port}/0"}, proxy, server


def rabbitmq_through_proxy(url: str) -> tuple[Settings, Proxy]:
    """A RabbitMQ that others use too: it can be cut off, but not stopped."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5672))
    place = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
    return {"BROKER_URL": urlunsplit(("amqp", place, parts.path, "", ""))}, proxy


def delete_queue(url: str, name: str) -> None:
    """Leave nothing behind on a RabbitMQ that others use too."""
    with Connection(url) as connection:
        connection.default_channel.queue_delete(name)


@contextmanager
def queue_held(url: str, name: str) -> Iterator[None]:
    """For the block a queue belongs to a connection of its own, as to one that is half open; waits until it is free."""
    with Connection(url) as connection:
        retry_over_time(
            lambda: connection.channel().queue_declare(name, durable=False, exclusive=True),
            ResourceLocked,
            interval_start=0.1,
            interval_step=0,
            timeout=10,
        )
        yield


def postgres_through_proxy(url: str, *, address: str) -> tuple[Settings, Proxy]:
    """A new database on a PostgreSQL that listens on a Unix socket."""
    import psycopg

    name = f"faults_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        port = connection.info.port
    parts = urlsplit(url)
    proxy = Proxy(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{port}", address=address)
    place = f"{parts.username or 'postgres'}@{address}:{proxy.port}"
    return {"DATABASE_URL": urlunsplit(("postgres", place, f"/{name}", "", ""))}, proxy
