"""What dies, and what follows: nothing is lost, nothing has to be done by hand."""

import os
import signal
import time

import pytest
from redis import Redis

from generation.lifecycle import Outcome, Status
from tests.service.running import LONG

pytestmark = pytest.mark.faults


def start_on_some_worker(service, steps: int = 60) -> tuple[dict, str]:
    """A running generation and the label of the device that has it."""
    generation = service.submit(**LONG | {"num_inference_steps": steps})
    service.wait(generation, until=lambda now: now["progress"]["step"] >= 2)
    return generation, service.attempts(generation)[0]["worker"].partition("@")[0]


def wait_for_worker(service, label: str, *, other_than: int) -> None:
    """Until the supervisor has started a new worker."""
    while True:
        try:
            if service.worker_pid(label) != other_than:
                return
        except AssertionError:
            pass
        time.sleep(0.1)


def test_a_killed_worker_costs_one_attempt_and_is_started_again(service):
    generation, label = start_on_some_worker(service)
    killed = service.worker_pid(label)

    os.kill(killed, signal.SIGKILL)

    assert service.wait(generation)["status"] == Status.SUCCEEDED
    outcomes = [attempt["outcome"] for attempt in service.attempts(generation)]
    assert outcomes == [Outcome.LOST, Outcome.SUCCEEDED]
    wait_for_worker(service, label, other_than=killed)
    assert "SIGKILL" in service.log.read_text()


def test_a_polite_stop_gives_the_generation_back(service):
    generation, label = start_on_some_worker(service)
    stopped = service.worker_pid(label)

    os.kill(stopped, signal.SIGTERM)

    assert service.wait(generation)["status"] == Status.SUCCEEDED
    outcomes = [attempt["outcome"] for attempt in service.attempts(generation)]
    assert outcomes == [Outcome.RELEASED, Outcome.SUCCEEDED]
    wait_for_worker(service, label, other_than=stopped)


def test_a_broker_that_forgets_everything_loses_nothing(service):
    generations = [service.submit(num_inference_steps=6) for _ in range(8)]

    with Redis(unix_socket_path=f"{service.environment['PICTOR_DATA_DIR']}/redis/redis.sock") as redis:
        redis.flushall()

    ends = [service.wait(generation) for generation in generations]
    assert {end["status"] for end in ends} == {Status.SUCCEEDED}
    assert {end["attempts"] for end in ends} == {1}


def test_a_connection_that_drops_does_not_run_anything_twice(service):
    generation, _ = start_on_some_worker(service, steps=40)

    with Redis(unix_socket_path=f"{service.environment['PICTOR_DATA_DIR']}/redis/redis.sock") as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    end = service.wait(generation)
    assert (end["status"], end["attempts"]) == (Status.SUCCEEDED, 1)
