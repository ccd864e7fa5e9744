"""The broker and the database of a cluster, each with a proxy before it that can cut it off."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

from kombu import Connection

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
