"""The Celery tasks: what surrounds a run."""

import pytest
from django.db import connection

from generation import tasks
from generation.lifecycle import Status
from generation.models import Generation
from generation.worker import Worker
from tests import factories
from tests.fakes import ScriptedRuntime

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def kept_connection(monkeypatch):
    """A connection that outlives its task, as a worker's settings have it: not of the pool that web processes have."""
    connection.close()
    own = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", own)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", True)
    connection.ensure_connection()
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    """This process as a worker whose device draws grey squares."""
    worker = Worker(runtime=ScriptedRuntime(), device=factories.make_device())
    monkeypatch.setattr(tasks, "this_worker", lambda: worker)


def test_tasks_share_a_connection_while_it_is_young(kept_connection):
    before = kept_connection.connection

    tasks.run_generation(str(factories.make_generation(dispatch_no=1).pk), 1)

    assert kept_connection.connection is before


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server that could restart")
def test_a_connection_that_the_database_has_closed_meanwhile_costs_no_task(kept_connection):
    generation = factories.make_generation(dispatch_no=1)
    close_from_outside(kept_connection)

    tasks.run_generation(str(generation.pk), 1)

    assert Generation.objects.get(pk=generation.pk).status == Status.SUCCEEDED


def close_from_outside(kept_connection) -> None:
    """End a connection's server process, as a restart of the database does."""
    with kept_connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (process,) = cursor.fetchone()
    other = kept_connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [process])
    other.close()
