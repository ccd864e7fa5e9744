"""A pytest plugin that shares a run out to three processes: whole files, so that what a file starts is started once."""

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

PROCESSES = 3  # of two cores: who tries failures waits half of the time, for leases that end and workers that start
SERVICE = "tests/service/"
FAULTS = "tests/faults/"
# Services that several files share; other files in those folders start their own.
FAULTS_OF_BROKERS = "faults of brokers and stores"
FAULTS_OF_WORKERS = "faults of workers"
FAULTS_ON_RABBITMQ = "faults with RabbitMQ"
SERVICE_WITH_ROOM = "service with room for several"
SHARES = {
    "tests/faults/test_brokers.py": FAULTS_OF_BROKERS,
    "tests/faults/test_stores.py": FAULTS_OF_BROKERS,
    "tests/faults/test_workers.py": FAULTS_OF_WORKERS,
    "tests/faults/test_resuming.py": FAULTS_OF_WORKERS,
    "tests/service/test_company.py": SERVICE_WITH_ROOM,
    "tests/service/test_rabbitmq.py": SERVICE_WITH_ROOM,
    "tests/service/test_runtimes.py": "service over model servers",
}
LONGEST_FIRST = (SERVICE, FAULTS_OF_BROKERS, FAULTS_OF_WORKERS, FAULTS_ON_RABBITMQ)


@pytest.hookimpl(tryfirst=True)  # xdist itself asks for as many as there are cores
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for folders; for single files none: they run in this process, sooner than another one starts."""
    names_a_folder = any(Path(argument).is_dir() for argument in config.args)
    return PROCESSES if names_a_folder else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "Shares":
    """Called in the process that hands the tests out."""
    return Shares(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest shares first, then what else starts services, so that all processes end together."""
    items.sort(key=lambda item: rank(item.nodeid))


def rank(nodeid: str) -> int:
    """The lower, the sooner its share begins."""
    share = share_of(nodeid)
    if share in LONGEST_FIRST:
        return LONGEST_FIRST.index(share)
    return len(LONGEST_FIRST) + (not nodeid.startswith((SERVICE, FAULTS)))


def share_of(nodeid: str) -> str:
    """A file, or all the tests that use one running service, or the browser."""
    file = nodeid.partition("::")[0]
    if file.startswith(FAULTS) and nodeid.endswith("rabbitmq]"):
        return FAULTS_ON_RABBITMQ
    if file in SHARES:
        return SHARES[file]
    if file.startswith(SERVICE):
        return SERVICE
    if file.endswith("_in_chromium.py"):
        return "chromium"
    return file


class Shares(LoadScopeScheduling):
    """Hands out shares instead of modules."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)
