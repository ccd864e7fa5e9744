"""A pytest plugin that is loaded before Django's settings: a data folder and a database of the tests' own.

Under pytest-xdist each worker loads it too, and gets a folder of its own inside the first process's; PostgreSQL is
started once, and each worker has its own databases on it.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.postgres import start_postgres

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
FOLDER = Path(os.environ["TESTS_FOLDER"]) / WORKER if WORKER else Path(tempfile.mkdtemp(prefix="pictor-tests-"))
OURS = ("PICTOR_", "DATABASE_URL", "REDIS_URL", "BROKER_URL")
# xdist sets the first in its workers; the second makes each start of a process three times slower.
PYTHONS = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
DATABASES = ("sqlite", "postgres")
DATABASE_FIXTURES = {"db", "transactional_db"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--database=postgres` runs what depends on a database on a real PostgreSQL that comes with a wheel."""
    parser.addoption("--database", choices=DATABASES, default="sqlite")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked with the other database is left out, and on PostgreSQL all that has nothing to do with one."""
    database = config.getoption("database")
    others = [item for item in items if not runs_on(database, item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if runs_on(database, item)]


def runs_on(database: str, item: pytest.Item) -> bool:
    """Whether the test is one for this database."""
    marker = item.get_closest_marker("databases")
    assert marker is None or (marker.args and set(marker.args) <= {*DATABASES}), f"{item.nodeid}: {marker}"
    return database in marker.args if marker else database == "sqlite" or uses_database(item)


def uses_database(item: pytest.Item) -> bool:
    """Whether the test, or the service that it starts, reads or writes a database."""
    marks = (item.get_closest_marker(name) for name in ("django_db", "service"))
    return any(marks) or not DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def prepare() -> None:
    """Give the run an environment in which nothing of this machine's counts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it, children too
    for name in [name for name in os.environ if name.startswith(OURS) or name in PYTHONS]:
        del os.environ[name]
    sys.dont_write_bytecode = False
    os.environ["PICTOR_DATA_DIR"] = str(FOLDER / "data")
    os.environ["PICTOR_LOG_LEVEL"] = "WARNING"
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that wait by spinning take the cores from the other processes
    if WORKER is None:
        prepare_for_workers()
    if url := os.environ.get("TESTS_POSTGRES_URL"):
        os.environ["DATABASE_URL"] = url


def prepare_for_workers() -> None:
    """Make what all processes of the run share; it goes when this process, the first, ends."""
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    os.environ["TESTS_FOLDER"] = str(FOLDER)
    os.environ.pop("TESTS_POSTGRES_URL", None)
    if "--database=postgres" in sys.argv:
        os.environ["TESTS_POSTGRES_URL"] = start_careless_postgres()


def start_careless_postgres() -> str:
    """Start PostgreSQL and return its URL; it stops with this process."""
    server = start_postgres(FOLDER / "postgres")
    atexit.register(server.cleanup)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # its data need not survive this machine
        server.psql(f"ALTER SYSTEM SET {setting} = off;")
    server.psql("SELECT pg_reload_conf();")
    return str(server.get_uri())


prepare()
