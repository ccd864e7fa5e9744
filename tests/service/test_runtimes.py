"""The rules of the queue over each runtime that has a model server: with the real processes, as `up` starts them."""

import os
import signal
from pathlib import Path

import pytest

from tests.service.conftest import QUICK, database_of_its_own
from tests.service.running import LONG, Running, running_service


@pytest.fixture(scope="module", params=["http", "uds"])
def remote_service(request, tmp_path_factory):
    """One CPU device, its engine in a model server."""
    settings = QUICK | {"PICTOR_RUNTIME": request.param, "PICTOR_CPU_SLOTS": "2"}
    name = f"remote_{request.param}"
    with running_service(tmp_path_factory.mktemp(name), **settings, **database_of_its_own(name)) as running:
        yield running


def server_pid(service: Running) -> int:
    """The model server of this service."""
    ours = f"PICTOR_DATA_DIR={service.environment['PICTOR_DATA_DIR']}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"generation.runtimes.server" in words and ours in environment:
            return int(place.name)
    raise AssertionError("There is no model server.")


def has_torch(process: int) -> bool:
    """Whether a process has loaded PyTorch's library."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def is_drawing(seen: dict) -> bool:
    """Whether a generation has made a step."""
    return seen["progress"]["step"] > 0


def test_a_picture_is_made_by_a_worker_without_torch_and_says_which_way_it_went(remote_service):
    generation = remote_service.finish()

    fields = '"runtime", "serialise_ms", "transfer_ms", "wait_ms"'
    attempt = remote_service.ask(f"list(Attempt.objects.filter(generation={generation['id']!r}).values({fields}))[0]")
    assert generation["error"] is None
    assert attempt.pop("runtime") == remote_service.environment["PICTOR_RUNTIME"]
    assert all(value >= 0 for value in attempt.values())
    assert not has_torch(remote_service.worker_pid("cpu0")) and has_torch(server_pid(remote_service))


def test_a_cancel_stops_the_model_server_too(remote_service):
    generation = remote_service.submit(**LONG)
    remote_service.wait(generation, until=is_drawing)

    remote_service.client.post(generation["links"]["cancel"])

    cancelled = remote_service.wait(generation)
    assert cancelled["finished_at"] and remote_service.finish()["error"] is None


def test_what_a_killed_model_server_was_drawing_is_drawn_by_the_next_one(remote_service):
    generation = remote_service.submit(**LONG | {"num_inference_steps": 40})
    remote_service.wait(generation, until=is_drawing)
    worker = remote_service.worker_pid("cpu0")

    os.kill(server_pid(remote_service), signal.SIGKILL)

    drawn = remote_service.wait(generation)
    assert drawn["error"] is None
    assert [attempt["outcome"] for attempt in remote_service.attempts(generation)] == ["lost", "succeeded"]
    assert remote_service.worker_pid("cpu0") == worker
