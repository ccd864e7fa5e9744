"""Cancel of a running generation: seen at the next step, and the worker goes on with its model loaded."""

from generation.lifecycle import Outcome, Status
from tests.service.running import LONG


def run_and_cancel(service) -> tuple[dict, int]:
    """Cancel in mid-run; returns the end and the last step that was seen before."""
    generation = service.submit(**LONG)
    seen = service.wait(generation, until=lambda now: now["progress"]["step"] >= 2)
    response = service.client.post(generation["links"]["cancel"])
    assert (response.status_code, response.json()["status"]) == (202, Status.RUNNING)
    return service.wait(generation), seen["progress"]["step"]


def test_a_running_generation_stops_long_before_its_end(service):
    generation, _ = run_and_cancel(service)

    attempt = service.attempts(generation)[0]
    assert (generation["status"], generation["images"]) == (Status.CANCELLED, [])
    assert attempt["outcome"] == Outcome.CANCELLED
    assert attempt["step"] < 100


def test_cancel_twice_is_the_same_as_once(service):
    generation, _ = run_and_cancel(service)

    response = service.client.post(generation["links"]["cancel"])

    assert (response.status_code, response.json()["status"]) == (200, Status.CANCELLED)


def test_after_a_cancel_the_same_process_takes_the_next(service):
    before = [service.worker_pid(label) for label in ("cpu0", "cpu1")]
    run_and_cancel(service)

    assert service.finish()["status"] == Status.SUCCEEDED
    assert [service.worker_pid(label) for label in ("cpu0", "cpu1")] == before


def test_cancel_of_a_finished_one_is_a_conflict(service):
    generation = service.finish()

    assert service.client.post(generation["links"]["cancel"]).status_code == 409


def test_a_waiting_one_never_reaches_a_worker(service):
    running = [service.submit(**LONG) for _ in range(2)]
    waiting = service.submit()

    response = service.client.post(waiting["links"]["cancel"])

    assert (response.status_code, response.json()["status"]) == (200, Status.CANCELLED)
    for generation in running:
        service.client.post(generation["links"]["cancel"])
        service.wait(generation)
    assert service.attempts(waiting) == []
