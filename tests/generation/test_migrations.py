"""Migrations that move data."""

from uuid import UUID

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def migrate(name: str):
    """Bring `generation` to that migration; returns the models as they are there."""
    executor = MigrationExecutor(connection)
    executor.migrate([("generation", name)])
    return MigrationExecutor(connection).loader.project_state([("generation", name)]).apps


def test_generations_from_before_arrival_keep_their_order():
    ids = [factories.make_generation().pk for _ in range(3)]
    try:
        migrate("0002_engine")

        rows = migrate("0004_requests").get_model("generation", "Generation").objects.order_by("arrival")

        assert [(row.pk, row.arrival) for row in rows] == [(UUID(str(pk)), pk) for pk in ids]
    finally:
        latest = MigrationExecutor(connection).loader.graph.leaf_nodes("generation")
        MigrationExecutor(connection).migrate(latest)
