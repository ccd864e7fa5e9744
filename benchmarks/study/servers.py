"""Model servers for the study: around the engine that takes a given time, or around the shipped model."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.study.processes import Started, start
from tests.ports import free_port

TIMED = "benchmarks.timed_engine:TimedEngine"
PATIENCE_SECONDS = 120  # PyTorch alone may take half a minute to import from a cold disk


@dataclass(frozen=True)
class Work:
    """What one generation takes, and how many of them a server works on at a time."""

    steps: int
    step_seconds: float
    at_once: int

    @property
    def seconds(self) -> float:
        """The time of one generation."""
        return self.steps * self.step_seconds

    @property
    def environment(self) -> dict[str, str]:
        """As the timed engine reads it."""
        return {"TIMED_STEP_SECONDS": str(self.step_seconds), "TIMED_AT_ONCE": str(self.at_once)}


class ModelServer:
    """One model server that can be killed and started again at the same place."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        work: Work | None,
        socket: Path | None = None,
        device: str = "cpu",
        measured: Path | None = None,
        slots: int = 0,
    ) -> None:
        """With `work` it draws nothing and takes that time; without, it has the real engine on the device.

        What engines have `measured` on the device they find in that folder; 0 `slots` are as many as is usual.
        """
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = socket
        self._folder = folder
        self._work = work
        self._device = device
        self._measured = measured
        self._slots = work.at_once if work is not None else slots
        self.started = self._start()

    def _start(self) -> Started:
        command = [sys.executable, "-m", "generation.runtimes.server", "--bind", f"127.0.0.1:{self.port}"]
        if self.socket is not None:
            command += ["--uds", str(self.socket)]
        command += ["--device", self._device, "--slots", str(self._slots)]
        if self._measured is not None:
            command += ["--folder", str(self._measured)]
        environment: dict[str, str] = {}
        if self._work is not None:
            command += ["--engine", TIMED]
            environment |= self._work.environment
        return start(self.name, command, folder=self._folder, **environment)

    def wait(self) -> None:
        """Wait until it answers."""
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self.is_well():
            assert time.monotonic() < gives_up_at, self.started.log.read_text()[-2000:]
            time.sleep(0.02)

    def is_well(self) -> bool:
        """Whether it takes generations."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def in_flight(self) -> int:
        """Generations that it works on now."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        connection.request("GET", "/v1/server")
        return int(json.loads(connection.getresponse().read())["in_flight"])

    def kill(self) -> None:
        """kill -9."""
        self.started.kill()

    def stop(self) -> None:
        """SIGTERM: what runs comes to its end first."""
        self.started.stop()

    def start_again(self) -> None:
        """As whoever keeps it alive does; returns when it answers."""
        self.started = self._start()
        self.wait()


@contextmanager
def model_servers(
    folder: Path, *, count: int, work: Work | None, device: str = "cpu", measured: Path | None = None, slots: int = 0
) -> Iterator[list[ModelServer]]:
    """So many servers for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    servers: list[ModelServer] = []
    try:
        for number in range(count):
            name, socket = f"server-{number}", folder / f"{number}.sock"
            server = ModelServer(name, folder, work=work, socket=socket, device=device, measured=measured, slots=slots)
            servers.append(server)
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()
