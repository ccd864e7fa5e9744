"""A pytest plugin that shares a run out to two processes: whole files, so that what a file starts is started once."""

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

PROCESSES = 2
SERVICE = "tests/service/"
FAULTS = "tests/faults/"
ONE_THAT_SHARES = ("test_company.py", "test_rabbitmq.py")
SERVICES_OF_THEIR_OWN = ("test_runtimes.py",)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for folders; for single files none: they run in this process, sooner than another one starts."""
    names_a_folder = any(Path(argument).is_dir() for argument in config.args)
    return PROCESSES if names_a_folder else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "Shares":
    """Called in the process that hands the tests out."""
    return Shares(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest shares first, so that both processes end together; in each, what breaks things comes last."""
    items.sort(
        key=lambda item: (not item.nodeid.startswith((SERVICE, FAULTS)), item.get_closest_marker("faults") is not None)
    )


class Shares(LoadScopeScheduling):
    """A share is a file, or all the files that use one running service, or the browser."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith(SERVICE) and file.endswith(ONE_THAT_SHARES):
            return "sharing service"
        if file.startswith(SERVICE) and not file.endswith(SERVICES_OF_THEIR_OWN):
            return SERVICE
        if file.startswith(FAULTS):
            return FAULTS
        if file.endswith("_in_chromium.py"):
            return "chromium"
        return file
