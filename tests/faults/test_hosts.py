"""Several hosts, and the network between them: web, Redis, PostgreSQL and S3 on one, a worker on each of two others."""

import os
from collections.abc import Iterator

import pytest

from generation.lifecycle import Outcome, Status
from tests.faults.cluster import PINNED, WORKERS, Cluster, started_cluster
from tests.faults.network import Network, why_not
from tests.missing import do_without
from tests.s3_server import BUCKET, KEY, SECRET, started_s3

pytestmark = pytest.mark.databases("postgres")  # hosts cannot share SQLite

LATE = "is lost; its result is dropped"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A switch with three hosts; where there can be none the tests are skipped, unless Pictor's CI requires it."""
    if reason := why_not():
        do_without(f"{reason} The tests with several hosts are skipped.", unless="REQUIRE_NETWORK_NAMESPACES")
    network = Network("left", "right")
    yield network
    network.close()


@pytest.fixture(scope="module")
def running_cluster(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The service, spread over the hosts."""
    folder = tmp_path_factory.mktemp("hosts")
    with started_s3(folder / "s3", address=network.address) as url:
        s3 = {
            "PICTOR_S3_BUCKET": BUCKET,
            "PICTOR_S3_ENDPOINT_URL": url,
            "PICTOR_S3_ACCESS_KEY_ID": KEY,
            "PICTOR_S3_SECRET_ACCESS_KEY": SECRET,
            "PICTOR_S3_ADDRESSING_STYLE": "path",
        }
        database = os.environ["DATABASE_URL"]
        with started_cluster(folder, postgres_url=database, network=network, settings=s3) as cluster:
            yield cluster


@pytest.fixture
def whole_network(network: Network, cluster: Cluster) -> Iterator[Network]:
    """The network; after the test all cables are in."""
    yield network
    for host in ("machine", *network.hosts):
        network.heal(host)


def draws_again(cluster: Cluster, worker: str) -> bool:
    """Whether this very worker takes another generation."""
    return cluster.wait({"id": cluster.ask(PINNED.format(label=worker))})["status"] == Status.SUCCEEDED


def test_a_worker_that_is_cut_off_in_mid_run_comes_too_late(cluster, whole_network):
    before = {worker: cluster.processes[worker].pid for worker in WORKERS}
    generation, worker = cluster.start_one()

    whole_network.cut(cluster.host_of(worker))
    ended = cluster.wait(generation)
    whole_network.heal(cluster.host_of(worker))

    assert ended["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]
    cluster.until(lambda: LATE in cluster.log(worker))
    assert all(draws_again(cluster, name) for name in WORKERS)
    assert {name: cluster.processes[name].pid for name in WORKERS} == before
    assert cluster.look(generation) == ended


def test_when_all_workers_are_cut_off_their_generations_wait_until_the_network_is_back(cluster, whole_network):
    before = {worker: cluster.processes[worker].pid for worker in WORKERS}
    running = [cluster.start_one()[0] for _ in WORKERS]

    whole_network.cut()
    waiting = cluster.submit()
    cluster.until(lambda: all(cluster.outcomes(one) == [Outcome.LOST] for one in running))
    statuses = {cluster.look(one)["status"] for one in (*running, waiting)}
    whole_network.heal()

    assert statuses == {Status.QUEUED}
    for generation in (*running, waiting):
        assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(waiting) == [Outcome.SUCCEEDED]
    assert all(draws_again(cluster, name) for name in WORKERS)
    assert {name: cluster.processes[name].pid for name in WORKERS} == before
