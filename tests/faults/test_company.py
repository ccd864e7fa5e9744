"""Generations that share a worker, one of which kills it: the guilty one is found, and the innocent draw on."""

import os
from collections.abc import Iterator

import pytest

from generation.lifecycle import Outcome, Status
from tests.faults.cluster import LONG, Cluster, started_cluster


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The service, with two places on each worker."""
    folder = tmp_path_factory.mktemp("company")
    with started_cluster(folder, postgres_url=os.environ.get("DATABASE_URL", ""), slots=2) as cluster:
        yield cluster


def test_who_kills_the_worker_that_others_share_is_tried_alone_and_stopped(cluster):
    cluster.kill("cpu1")  # so that both run on the other
    cluster.wait_for_end("cpu1")  # or it takes one of them along, which begins late
    cluster.until(lambda: cluster.ask("Device.objects.alive().count()") == 1)
    innocent, poison = cluster.submit(**LONG), cluster.submit(**LONG)
    cluster.until(lambda: all(cluster.look(one)["status"] == Status.RUNNING for one in (innocent, poison)))
    cluster.order(f"step-30@{poison['id']}", "each SIGSEGV")

    def mend_and_look() -> bool:
        cluster.mend()
        return cluster.look(poison)["status"] == Status.FAILED

    cluster.until(mend_and_look)

    assert cluster.look(poison)["error"]["code"] == "worker_lost"
    assert cluster.outcomes(poison) == [Outcome.LOST] * 3
    assert cluster.wait(innocent)["status"] == Status.SUCCEEDED, cluster.logs()
    assert cluster.outcomes(innocent) == [Outcome.LOST, Outcome.SUCCEEDED]
