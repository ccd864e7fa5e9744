"""Brokers that are down, silent, forgetful, or back again; web processes that die before they have spoken to one."""

import os
import signal
import time

import httpx
import pytest

from generation.lifecycle import Outcome, Status
from tests.faults.cluster import PINNED, SMALL, WORKERS
from tests.faults.conftest import on_every_broker, on_rabbitmq
from tests.faults.places import queue_held

NO_MESSAGE = "The broker took no message"


@on_every_broker
def test_1_a_web_process_killed_between_commit_and_message_loses_nothing(cluster):
    before = cluster.ask("Generation.objects.count()")
    cluster.order("after_commit", "SIGKILL")

    with pytest.raises(httpx.HTTPError):
        cluster.submit()
    cluster.wait_for_end("web")  # its connections go a moment before it does

    (identity,) = cluster.ask("[str(pk) for pk in Generation.objects.order_by('-id').values_list('pk', flat=True)[:1]]")
    assert cluster.ask("Generation.objects.count()") == before + 1
    cluster.mend()
    assert cluster.wait({"id": identity})["status"] == Status.SUCCEEDED
    assert cluster.outcomes({"id": identity}) == [Outcome.SUCCEEDED]


@on_every_broker
@pytest.mark.parametrize("fault", ["refuse", "fall_silent"])
def test_2_a_broker_that_is_away_is_no_error_for_the_client(cluster, fault):
    getattr(cluster.broker, fault)()

    generations = [cluster.submit()]
    failures = cluster.log("web").count(NO_MESSAGE)
    while (
        cluster.log("web").count(NO_MESSAGE) == failures
    ):  # after another failure it leaves the broker alone for a while
        generations.append(cluster.submit(num_inference_steps=1))
        time.sleep(0.3)  # that is seconds, and each of these has to be drawn
    waiting = [cluster.look(generation)["status"] for generation in generations]
    cluster.broker.cut()
    cluster.broker.accept()

    assert set(waiting) == {Status.QUEUED}
    for generation in generations:
        assert cluster.wait(generation)["status"] == Status.SUCCEEDED
        assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


@on_every_broker
@pytest.mark.parametrize("fault", ["refuse", "fall_silent", "dawdle"])
def test_2_whatever_the_broker_does_the_client_has_its_answer_within_three_seconds(cluster, fault):
    cluster.broker.cut()  # so that the web process has to connect anew, which takes longest
    getattr(cluster.broker, fault)()

    answers = [cluster.client.post("/api/generations/", json=SMALL) for _ in range(3)]
    cluster.broker.cut()
    cluster.broker.accept()

    assert {answer.status_code for answer in answers} == {202}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 3  # the promise, not a measurement
    for answer in answers:
        assert cluster.wait(answer.json())["status"] == Status.SUCCEEDED


@on_every_broker
def test_6_a_connection_that_drops_while_it_runs_starts_nothing_twice(cluster):
    generation, _ = cluster.start_one()

    if cluster.redis is not None:
        cluster.redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    else:
        cluster.broker.cut()

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


def test_8_a_redis_that_loses_everything_loses_no_generation(cluster):
    running, _ = cluster.start_one()
    waiting = [cluster.submit(num_inference_steps=1) for _ in range(20)]

    cluster.redis.lose_everything()
    cluster.redis.start()

    for generation in (running, *waiting):
        assert cluster.wait(generation)["status"] == Status.SUCCEEDED
        assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]
    assert all(cluster.is_up(worker) for worker in WORKERS)


def test_9_a_redis_that_restarts_with_its_file_runs_nothing_twice(cluster):
    running, _ = cluster.start_one()
    waiting = [cluster.submit() for _ in range(3)]

    cluster.redis.stop()
    cluster.redis.start()

    for generation in (running, *waiting):
        assert cluster.wait(generation)["status"] == Status.SUCCEEDED
        assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


def test_10_a_message_that_vanishes_with_a_paused_worker_is_made_anew(cluster):
    for worker in WORKERS:
        cluster.kill(worker, signal.SIGSTOP)

    generation = cluster.submit()
    for worker in WORKERS:
        cluster.kill(worker, signal.SIGKILL)
        cluster.wait_for_end(worker)
    cluster.mend()

    assert cluster.wait(generation)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(generation) == [Outcome.SUCCEEDED]


@on_every_broker
def test_15_a_half_open_connection_to_the_broker_heals(cluster):
    generation, _ = cluster.start_one()

    cluster.broker.fall_silent()
    assert cluster.wait(generation)["status"] == Status.SUCCEEDED  # nothing that runs needs the broker
    waiting = cluster.submit()
    cluster.broker.abandon()

    assert cluster.wait(waiting)["status"] == Status.SUCCEEDED
    assert cluster.outcomes(waiting) == [Outcome.SUCCEEDED]
    assert all(cluster.is_up(worker) for worker in WORKERS)


@on_rabbitmq
def test_15_a_worker_that_is_back_before_the_broker_has_missed_it_waits_for_its_queue(cluster):
    cluster.kill("cpu0")
    cluster.wait_for_end("cpu0")
    refusals = cluster.log("cpu0").count("RESOURCE_LOCKED")

    with queue_held(os.environ["TEST_RABBITMQ_URL"], f"cpu0@{cluster.host_of('cpu0')}.celery.pidbox"):
        cluster.start("cpu0")
        cluster.until(lambda: cluster.log("cpu0").count("RESOURCE_LOCKED") > refusals + 1)

    assert cluster.wait({"id": cluster.ask(PINNED.format(label="cpu0"))})["status"] == Status.SUCCEEDED
    assert cluster.is_up("cpu0")


@on_every_broker
def test_without_a_housekeeper_the_workers_stand_in_for_it(cluster):
    cluster.kill("housekeeper")
    cluster.wait_for_end("housekeeper")
    cluster.order("after_commit", "SIGKILL")

    with pytest.raises(httpx.HTTPError):
        cluster.submit()
    cluster.wait_for_end("web")  # its connections go a moment before it does
    (identity,) = cluster.ask("[str(pk) for pk in Generation.objects.order_by('-id').values_list('pk', flat=True)[:1]]")
    cluster.start("web")
    cluster.until(cluster.web_is_ready)

    assert cluster.wait({"id": identity})["status"] == Status.SUCCEEDED
    assert any("standing in" in cluster.log(worker) for worker in WORKERS)
