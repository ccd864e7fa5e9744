"""The running services that the tests of this folder share."""

import os
from collections.abc import Iterator

import pytest
from django.conf import settings

from tests.service.running import Running, running_service

QUICK = {
    "PICTOR_LEASE_SECONDS": "6",
    "PICTOR_REDISPATCH_SECONDS": "3",
    "PICTOR_WEBHOOKS_MAY_BE_PRIVATE": "true",  # the receivers of these tests are on this machine
}
ON_POSTGRES = ("test_pictures.py", "test_fuzzing.py")
ONE_AT_A_TIME = {"PICTOR_CPU_SLOTS": "1"}  # so that a test knows which device is busy and what has to wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts processes, and has time for it. On PostgreSQL pictures are enough, and the fuzzing."""
    for item in items:
        if "tests/service" in str(item.path):
            item.add_marker(pytest.mark.service)
            item.add_marker(pytest.mark.timeout(180))
            if item.path.name not in ON_POSTGRES:
                item.add_marker(pytest.mark.databases("sqlite"))


def database_of_its_own(name: str) -> dict[str, str]:
    """On PostgreSQL a new database on the same server; SQLite has a file in the service's folder anyway."""
    url = os.environ.get("DATABASE_URL")
    if url is None:
        return {}
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return {"DATABASE_URL": url.replace("/postgres?", f"/{name}?")}


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two CPU devices, with a short lease."""
    folder = tmp_path_factory.mktemp("service")
    with running_service(
        folder, devices="cpu:2", **QUICK, **ONE_AT_A_TIME, **database_of_its_own("service")
    ) as running:
        yield running


@pytest.fixture(scope="package")
def sharing_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One CPU device that runs four generations at once; with RabbitMQ as the broker where there is one."""
    url = os.environ.get("TEST_RABBITMQ_URL")
    broker = {"BROKER_URL": url} if url else {}
    folder = tmp_path_factory.mktemp("sharing")
    slots = {"PICTOR_CPU_SLOTS": "4"}
    with running_service(folder, **QUICK, **slots, **broker, **database_of_its_own("sharing")) as running:
        yield running


@pytest.fixture
def rabbitmq_service(request: pytest.FixtureRequest) -> Running:
    """A service with RabbitMQ as the broker."""
    if not os.environ.get("TEST_RABBITMQ_URL"):
        pytest.skip("TEST_RABBITMQ_URL is not set: the tests with RabbitMQ are skipped.")
    return request.getfixturevalue("sharing_service")


assert settings.DATA_DIR != settings.BASE_DIR / "var", "The tests must not touch a service of the developer's."
