"""The rules of the queue over each runtime that has a model server: with the real processes, as `up` starts them."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from generation.lifecycle import Status
from tests.runtimes.serving import server_process
from tests.service.conftest import QUICK, database_of_its_own
from tests.service.running import LONG, Running, running_service


@dataclass
class Remote:
    """A service, and the server that its worker calls; `kill` brings that back where nobody else does."""

    service: Running
    server_pid: Callable[[], int]
    kill: Callable[[], None]


@pytest.fixture(scope="module", params=["http", "uds", "gateway"])
def remote(request, tmp_path_factory) -> Iterator[Remote]:
    """One CPU device, its engine in a model server."""
    folder, name = tmp_path_factory.mktemp(request.param), f"remote_{request.param}"
    settings = QUICK | {"PICTOR_RUNTIME": request.param, "PICTOR_CPU_SLOTS": "2"} | database_of_its_own(name)
    if request.param != "gateway":
        with running_service(folder, **settings) as service:
            yield Remote(service, lambda: sidecar_of(service), lambda: os.kill(sidecar_of(service), signal.SIGKILL))
        return
    with server_process(folder, "--device", "cpu") as server:

        def kill() -> None:
            server.kill()
            server.start()

        with running_service(folder, PICTOR_GATEWAY_UPSTREAMS=server.url, **settings) as service:
            yield Remote(service, lambda: server.process.pid, kill)


def sidecar_of(service: Running) -> int:
    """The model server that this service has started."""
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


def test_a_picture_is_made_by_a_worker_without_torch_and_says_which_way_it_went(remote):
    service = remote.service

    generation = service.finish()

    [attempt] = service.client.get(f"{generation['links']['self']}attempts/").json()
    assert generation["error"] is None
    assert attempt["runtime"] == service.environment["PICTOR_RUNTIME"]
    assert all(attempt[name] >= 0 for name in ("serialise_ms", "transfer_ms", "wait_ms", "pipeline_seconds"))
    assert not has_torch(service.worker_pid("cpu0")) and has_torch(remote.server_pid())


def test_a_cancel_stops_the_model_server_too(remote):
    service = remote.service
    generation = service.submit(**LONG)
    service.wait(generation, until=is_drawing)

    service.client.post(generation["links"]["cancel"])

    assert service.wait(generation)["status"] == "cancelled"
    assert service.finish()["error"] is None


def test_what_a_killed_model_server_was_drawing_is_drawn_by_the_next_one(remote):
    service = remote.service
    both = [service.submit(**LONG | {"num_inference_steps": 30}, seed=seed) for seed in (1, 2)]
    for generation in both:  # one of them may wait in the server for a place in the other's forwards
        service.wait(generation, until=lambda seen: seen["status"] == Status.RUNNING)
    service.wait(both[0], until=lambda seen: is_drawing(seen) or is_drawing(service.look(both[1])))
    worker = service.worker_pid("cpu0")

    remote.kill()

    for generation in both:
        assert service.wait(generation)["error"] is None
        assert [attempt["outcome"] for attempt in service.attempts(generation)] == ["lost", "succeeded"]
    assert service.worker_pid("cpu0") == worker
