"""Databases and storages that are away for a while, or for good."""

import signal
import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from generation.lifecycle import Outcome, Status
from tests.faults.cluster import LEASE_SECONDS, WORKERS, Cluster

AWAY_SECONDS = 20


@contextmanager
def storage_away(cluster: Cluster):
    """A file where the folder of the images should be: nothing can be written below it."""
    media = cluster.folder / "data/media"
    aside = media.with_name("media-aside")
    media.rename(aside)
    media.write_text("not a folder")
    try:
        yield
    finally:
        media.unlink()
        aside.rename(media)


def test_12_a_database_that_is_away_costs_no_picture(cluster):
    if cluster.database is None:
        pytest.skip("SQLite is a file: it is locked instead, in the next test.")
    generation, _ = cluster.start_one()

    cluster.database.refuse()
    answers = []
    back_at = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < back_at:
        answers.append(cluster.client.get(f"/api/generations/{generation['id']}/"))
        time.sleep(1)
    cluster.database.accept()

    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["code"] == "unavailable"
    assert int(answers[0].headers["Retry-After"]) > 0
    assert answers[0].headers["Content-Type"] == "application/problem+json"
    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]
    assert all(cluster.is_up(name) for name in WORKERS)


def test_12_a_database_that_is_locked_beyond_the_lease_costs_no_picture(cluster):
    if cluster.database is not None:
        pytest.skip("PostgreSQL has no lock on everything: it goes away, in the test before.")
    generation, _ = cluster.start_one()

    lock = sqlite3.connect(cluster.folder / "data/db.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    released = threading.Timer(2 * LEASE_SECONDS, lambda: None)
    released.start()
    released.join()
    lock.rollback()
    lock.close()

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


def test_12_a_worker_that_is_paused_in_its_commit_holds_up_nobody(cluster):
    if cluster.database is None:
        pytest.skip("On SQLite whoever is paused in a transaction holds up all who write.")
    cluster.order("close-succeeded", "SIGSTOP")
    generation = cluster.submit()

    ended = cluster.wait(generation)
    late = cluster.attempts(generation)[0][0].partition("@")[0]
    cluster.kill(late, signal.SIGCONT)

    assert ended["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.SUCCEEDED]
    cluster.until(lambda: "is lost; its result is dropped" in cluster.log(late))


def test_13_a_storage_that_is_away_for_seconds_costs_no_second_run(cluster):
    generation, _ = cluster.start_one(num_inference_steps=20)

    with storage_away(cluster):
        cluster.wait(generation, until=lambda now: now["progress"]["fraction"] == 1)
        time.sleep(3)  # what is tried is the patience with which files are stored

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


def test_13_a_storage_that_stays_away_fails_what_it_does_not_take_and_frees_the_worker(cluster):
    with storage_away(cluster):
        generation = cluster.wait(cluster.submit())

    assert (generation["status"], generation["error"]["code"]) == (Status.FAILED, "storage_unavailable")
    assert cluster.outcomes(generation) == [Outcome.FAILED]
