"""The service that the tests of failures share: one for each broker, with a proxy before broker and database."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

import pytest

from tests.faults.cluster import QUICK, Cluster
from tests.faults.proxy import Proxy
from tests.faults.redis_server import RedisServer

BROKERS = ("redis", "rabbitmq")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here kills something, and has time for it."""
    for item in items:
        if "tests/faults" in str(item.path):
            item.add_marker(pytest.mark.service)
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(240))


def database_through_proxy() -> tuple[dict[str, str], Proxy | None]:
    """A new database on the tests' PostgreSQL and a proxy before it; SQLite is a file that nothing can stand before."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        return {}, None
    import psycopg

    name = f"faults_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        port = connection.info.port
    parts = urlsplit(url)
    folder = parse_qs(parts.query)["host"][0]
    proxy = Proxy(f"{folder}/.s.PGSQL.{port}")
    user = parts.username or "postgres"
    return {"DATABASE_URL": urlunsplit(("postgres", f"{user}@127.0.0.1:{proxy.port}", f"/{name}", "", ""))}, proxy


def broker_through_proxy(kind: str, folder: Path) -> tuple[dict[str, str], Proxy, RedisServer | None]:
    """A broker, and a proxy before it."""
    if kind == "redis":
        server = RedisServer(folder / "redis")
        proxy = Proxy(("127.0.0.1", server.port))
        return {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}, proxy, server
    url = os.environ.get("TEST_RABBITMQ_URL")
    if not url:
        pytest.skip("TEST_RABBITMQ_URL is not set: the tests with RabbitMQ are skipped.")
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5672))
    place = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
    return {"BROKER_URL": urlunsplit(("amqp", place, parts.path, "", ""))}, proxy, None


@pytest.fixture(scope="package", params=["redis"])
def running_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The service; tests of deliveries ask for it on both brokers."""
    folder = tmp_path_factory.mktemp(request.param)
    broker_settings, broker, redis = broker_through_proxy(request.param, folder)
    database_settings, database = database_through_proxy()
    places = {"PICTOR_DATA_DIR": str(folder / "data"), "PICTOR_KILL_POINTS": str(folder / "orders")}
    environment = QUICK | places | broker_settings | database_settings
    cluster = Cluster(folder, broker=broker, database=database, redis=redis, environment=environment)
    try:
        cluster.set_up(slug=f"faults-{uuid4().hex[:8]}")
        yield cluster
    finally:
        cluster.close()
        for proxy in filter(None, (broker, database)):
            proxy.close()
        if redis is not None:
            redis.close()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The service; after the test it is made whole again, takes another generation, and its history is checked."""
    yield running_cluster
    running_cluster.withdraw_orders()
    running_cluster.broker.accept()
    if running_cluster.database is not None:
        running_cluster.database.accept()
    running_cluster.mend()
    assert running_cluster.wait(running_cluster.submit())["status"] == "succeeded", "I9"
    running_cluster.until(lambda: not running_cluster.ask("Generation.objects.unfinished().exists()"))
    assert running_cluster.ask("history.violations()") == []
