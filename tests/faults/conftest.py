"""The service that the tests of failures share: one for each broker, with a proxy before broker and database."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster, started_cluster

# What brokers deliver, and when, is the same to either database: each is tried on one. PostgreSQL is what RabbitMQ is
# used with. Redis with PostgreSQL is what all tests have there that are not about deliveries.
REDIS = pytest.param("redis", marks=pytest.mark.databases("sqlite"))
RABBITMQ = pytest.param("rabbitmq", marks=pytest.mark.databases("postgres"))
on_every_broker = pytest.mark.parametrize("running_cluster", [REDIS, RABBITMQ], indirect=True)
on_rabbitmq = pytest.mark.parametrize("running_cluster", [RABBITMQ], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here kills something, and has time for it."""
    for item in items:
        if "tests/faults" in str(item.path):
            item.add_marker(pytest.mark.service)
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="package", params=["redis"])
def running_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The service; tests of deliveries ask for it on both brokers."""
    broker = {"redis": "", "rabbitmq": os.environ.get("TEST_RABBITMQ_URL")}[request.param]
    if broker is None:
        pytest.skip("TEST_RABBITMQ_URL is not set: the tests with RabbitMQ are skipped.")
    folder = tmp_path_factory.mktemp(request.param)
    with started_cluster(folder, rabbitmq_url=broker, postgres_url=os.environ.get("DATABASE_URL", "")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The service; after the test it is made whole again, takes another generation, and its history is checked."""
    yield running_cluster
    running_cluster.withdraw_orders()
    running_cluster.broker.accept()
    if running_cluster.database is not None:
        running_cluster.database.accept()
    running_cluster.ask("Device.objects.update(quarantined_at=None, trusted_from=Now())")  # the tests are to blame
    running_cluster.mend()
    assert running_cluster.wait(running_cluster.submit())["status"] == "succeeded", "I9"
    running_cluster.until(lambda: not running_cluster.ask("Generation.objects.unfinished().exists()"))
    assert running_cluster.ask("history.violations()") == []
