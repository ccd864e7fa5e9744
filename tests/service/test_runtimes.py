"""The rules of the queue over each runtime that has a model server: with the real processes, as `up` starts them."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from generation.lifecycle import Status
from tests import measurements
from tests.runtimes.serving import ServerProcess, server_process
from tests.service.conftest import QUICK, database_of_its_own
from tests.service.running import LONG, SMALL, Running, running_service

DEVICES = {"http": "cpu0", "uds": "cpu1", "gateway": "cpu2"}
LINKS = {"http": b"--bind", "uds": b"--uds"}  # what the two are told apart by that the service has started
MANY_STEPS = {"num_inference_steps": 60}
SUBMIT = """str(operations.submit(
    operations.Wishes(**{wishes!r}),
    owner=__import__('django.contrib.auth.models').contrib.auth.models.User.objects.get(),
    pinned_to=Device.objects.get(label={device!r}),
).pk)"""


@dataclass
class Remote:
    """A device of the service, and the server that its worker calls; `kill` brings that back where nobody else does."""

    service: Running
    runtime: str
    server_pid: Callable[[], int]
    kill: Callable[[], None]

    @property
    def device(self) -> str:
        """Its label."""
        return DEVICES[self.runtime]

    def submit(self, **wishes: Any) -> dict[str, Any]:
        """Submit what no other device takes."""
        wishes = {"prompt": "a red apple"} | SMALL | wishes
        identity = self.service.ask(SUBMIT.format(wishes=wishes, device=self.device))
        return self.service.client.get(f"/api/generations/{identity}/").json()

    def finish(self, **wishes: Any) -> dict[str, Any]:
        """Submit that and wait for the end."""
        return self.service.wait(self.submit(**wishes))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A model server that nobody starts again: the gateway's."""
    with server_process(
        tmp_path_factory.mktemp("server"), "--device", "cpu", "--folder", str(measurements.folder())
    ) as server:
        yield server


@pytest.fixture(scope="module")
def remote_service(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A CPU device for each runtime, its engine in a model server."""
    settings = {
        "PICTOR_RUNTIME": ",".join(f"{device}={runtime}" for runtime, device in DEVICES.items()),
        "PICTOR_GATEWAY_UPSTREAMS": server.url,
        "PICTOR_CPU_SLOTS": "2",
    }
    folder = tmp_path_factory.mktemp("remote")
    with running_service(
        folder, devices=f"cpu:{len(DEVICES)}", **QUICK, **settings, **database_of_its_own("remote")
    ) as service:
        yield service


@pytest.fixture(params=DEVICES)
def remote(request: pytest.FixtureRequest, server: ServerProcess, remote_service: Running) -> Remote:
    """Each runtime in turn."""
    if request.param == "gateway":

        def kill() -> None:
            server.kill()
            server.start()

        return Remote(remote_service, "gateway", lambda: server.process.pid, kill)

    def pid() -> int:
        return sidecar_of(remote_service, link=LINKS[request.param])

    return Remote(remote_service, request.param, pid, lambda: os.kill(pid(), signal.SIGKILL))


def sidecar_of(service: Running, *, link: bytes) -> int:
    """The model server that this service has started with that link."""
    ours = f"PICTOR_DATA_DIR={service.environment['PICTOR_DATA_DIR']}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"generation.runtimes.server" in words and link in words and ours in environment:
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

    generation = remote.finish()

    [attempt] = service.client.get(f"{generation['links']['self']}attempts/").json()
    assert generation["error"] is None
    assert attempt["runtime"] == remote.runtime
    assert all(attempt[name] >= 0 for name in ("serialise_ms", "transfer_ms", "wait_ms", "pipeline_seconds"))
    assert not has_torch(service.worker_pid(remote.device)) and has_torch(remote.server_pid())


def test_a_cancel_stops_the_model_server_too(remote):
    service = remote.service
    generation = remote.submit(**LONG)
    service.wait(generation, until=is_drawing)

    service.client.post(generation["links"]["cancel"])

    assert service.wait(generation)["status"] == "cancelled"
    assert remote.finish()["error"] is None


def test_what_a_killed_model_server_was_drawing_is_drawn_by_the_next_one(remote):
    service = remote.service
    both = [remote.submit(**MANY_STEPS, seed=seed) for seed in (1, 2)]
    for generation in both:  # one of them may wait in the server for a place in the other's forwards
        service.wait(generation, until=lambda seen: seen["status"] == Status.RUNNING)
    service.wait(both[0], until=lambda seen: is_drawing(seen) or is_drawing(service.look(both[1])))
    worker = service.worker_pid(remote.device)

    remote.kill()

    for generation in both:
        assert service.wait(generation)["error"] is None
        assert [attempt["outcome"] for attempt in service.attempts(generation)] == ["lost", "succeeded"]
    assert service.worker_pid(remote.device) == worker
