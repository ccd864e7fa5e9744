"""The same request from several threads at once: one generation, and everybody is told of it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from uuid import uuid4

import pytest
from django.db import connection, transaction

from generation import operations
from generation.errors import InFlight
from generation.models import Batch, Generation
from generation.parameters import Wishes
from generation.terms import Asked, Terms
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
TWINS = 8
APPLE = Wishes(prompt="a red apple")


@pytest.fixture(autouse=True)
def without_broker(dead_broker):
    """Nothing here is about messages."""


def at_once(submit):
    """What each of several threads gets that submit at the same moment."""
    start = Barrier(TWINS)

    def one(_):
        start.wait()
        try:
            return submit()
        finally:
            connection.close()

    with ThreadPoolExecutor(TWINS) as threads:
        return list(threads.map(one, range(TWINS)))


@pytest.mark.parametrize("terms", [Terms(idempotency_key="once"), Terms(id=uuid4())], ids=["key", "id"])
def test_twins_make_one_generation(terms):
    owner, _ = factories.make_user(), factories.make_model()

    made = at_once(lambda: operations.submit(APPLE, owner=owner, terms=terms))

    assert {generation.pk for generation in made} == {Generation.objects.get().pk}
    assert sum(not generation.is_replay for generation in made) == 1


def test_twins_make_one_batch():
    owner, _ = factories.make_user(), factories.make_model()
    requests = [Asked(APPLE), Asked(Wishes(prompt="a blue whale"))]

    made = at_once(lambda: operations.submit_batch(requests, owner=owner, idempotency_key="once"))

    assert {batch.pk for batch in made} == {Batch.objects.get().pk}
    assert Generation.objects.count() == 2


def test_requests_without_a_key_are_no_twins():
    owner, _ = factories.make_user(), factories.make_model()

    made = at_once(lambda: operations.submit(APPLE, owner=owner))

    assert len({generation.pk for generation in made}) == TWINS


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL lets it wait only so long: the next test.")
def test_a_twin_of_one_that_takes_long_waits_for_it_and_is_a_replay():
    owner, _ = factories.make_user(), factories.make_model()
    terms = Terms(idempotency_key="once")
    is_stored, may_commit = Event(), Event()

    def take_long():
        with transaction.atomic():
            first = operations.submit(APPLE, owner=owner, terms=terms)
            is_stored.set()
            may_commit.wait(10)
        connection.close()
        return first

    def ask_again():
        is_stored.wait(10)
        try:
            return operations.submit(APPLE, owner=owner, terms=terms)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        first, twin = threads.submit(take_long), threads.submit(ask_again)
        is_stored.wait(10)
        may_commit.set()

    assert (twin.result().pk, twin.result().is_replay) == (first.result().pk, True)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="On SQLite the second writer waits for the first.")
def test_a_twin_of_one_that_takes_long_is_told_to_come_again(monkeypatch):
    owner, _ = factories.make_user(), factories.make_model()
    terms = Terms(idempotency_key="once")
    monkeypatch.setattr("generation.submission.LONGEST_WAIT_FOR_A_TWIN", "50ms")
    is_stored, may_commit = Event(), Event()

    def take_long():
        try:
            with transaction.atomic():
                operations.submit(APPLE, owner=owner, terms=terms)
                is_stored.set()
                may_commit.wait(10)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(take_long)
        is_stored.wait(10)
        with pytest.raises(InFlight):
            operations.submit(APPLE, owner=owner, terms=terms)
        may_commit.set()
        first.result()

    assert operations.submit(APPLE, owner=owner, terms=terms).is_replay
