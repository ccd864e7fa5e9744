"""A RabbitMQ that dies and comes back, with what it had or without."""

import os
from collections.abc import Iterator

import pytest

from generation.lifecycle import Status
from tests.faults.cluster import Cluster, started_cluster
from tests.faults.rabbitmq_server import RabbitMQServer, why_not
from tests.missing import do_without

pytestmark = pytest.mark.databases("postgres")  # with which RabbitMQ is used


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """A node; where there can be none the tests are skipped, unless Pictor's CI requires it."""
    if reason := why_not():
        do_without(reason, unless="REQUIRE_RABBITMQ")
    server = RabbitMQServer(tmp_path_factory.mktemp("node") / "rabbitmq")
    yield server
    server.close()


@pytest.fixture(scope="module")
def running_cluster(rabbitmq: RabbitMQServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The service, with that node as its broker."""
    folder, database = tmp_path_factory.mktemp("with_node"), os.environ.get("DATABASE_URL", "")
    with started_cluster(folder, rabbitmq_url=rabbitmq.url, postgres_url=database) as cluster:
        yield cluster


@pytest.mark.parametrize("forgets", [False, True])
def test_9_a_rabbitmq_that_is_killed_and_comes_back_loses_nothing_and_runs_nothing_twice(cluster, rabbitmq, forgets):
    running, _ = cluster.start_one()
    waiting = [cluster.submit() for _ in range(20)]

    rabbitmq.kill()
    if forgets:
        rabbitmq.forget()
    meanwhile = cluster.submit()
    rabbitmq.start()

    for generation in (running, *waiting, meanwhile):
        assert cluster.wait(generation)["status"] == Status.SUCCEEDED
        assert cluster.outcomes(generation) == ["succeeded"]
