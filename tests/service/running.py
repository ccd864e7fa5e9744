"""The whole of Pictor, started as a user starts it, in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from generation.lifecycle import FINISHED
from tests import measurements
from tests.inspector import ROOT, Inspector
from tests.ports import free_port

PATIENCE_SECONDS = 90
POLL_SECONDS = 0.05
SMALL = {"num_inference_steps": 3, "width": 128, "height": 128}
LONG = {"num_inference_steps": 100, "width": 256, "height": 256}


@dataclass
class Running:
    """A running service and a client with its first API key."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    client: httpx.Client
    log: Path
    inspector: Inspector

    def submit(self, **body: Any) -> dict[str, Any]:
        """Submit a small generation of a red apple in three steps, unless said otherwise."""
        wishes = {"prompt": "a red apple"} | SMALL | body
        response = self.client.post("/api/generations/", json=wishes)
        assert response.status_code == 202, response.text
        return response.json()

    def look(self, generation: dict[str, Any]) -> dict[str, Any]:
        """The generation as it is now."""
        return self.client.get(generation["links"]["self"]).json()

    def wait(self, generation: dict[str, Any], *, until: Any = None) -> dict[str, Any]:
        """Poll until it is finished, or until `until(it)` is true."""
        is_reached = until or (lambda seen: seen["status"] in FINISHED)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            seen = self.look(generation)
            if is_reached(seen):
                return seen
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{seen}\n{self.log.read_text()[-5000:]}")

    def finish(self, **body: Any) -> dict[str, Any]:
        """Submit and wait for the end."""
        return self.wait(self.submit(**body))

    def image(self, generation: dict[str, Any], index: int = 0) -> bytes:
        """The bytes of one image."""
        response = self.client.get(generation["images"][index]["url"])
        response.raise_for_status()
        return response.content

    def ask(self, expression: str) -> Any:
        """The value of an expression in the service's own Django."""
        return self.inspector.ask(expression)

    def attempts(self, *generations: dict[str, Any]) -> list[dict[str, Any]]:
        """The attempts of the generations: worker, outcome, step."""
        ids, wanted = [generation["id"] for generation in generations], '"worker", "outcome", "step"'
        return self.ask(f"list(Attempt.objects.filter(generation__in={ids!r}).values({wanted}))")

    def worker_pid(self, label: str) -> int:
        """The process of a device's worker."""
        return self.find_worker(lambda words, environment: f"PICTOR_DEVICE={label}".encode() in environment)

    def io_pid(self) -> int:
        """The process that sends webhooks."""
        return self.find_worker(lambda words, environment: b"io" in words)

    def find_worker(self, is_wanted: Callable[[list[bytes], list[bytes]], bool]) -> int:
        """The Celery worker of this service whose command line and environment are as wanted."""
        ours = f"PICTOR_DATA_DIR={self.environment['PICTOR_DATA_DIR']}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment = (place / "environ").read_bytes().split(b"\0")
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"worker" in words and ours in environment and is_wanted(words, environment):
                return int(place.name)
        raise AssertionError("There is no such worker.")


@contextmanager
def running_service(folder: Path, *, devices: str = "cpu:1", **extra: str) -> Iterator[Running]:
    """Start `manage.py up`, wait until it says that it is ready, and stop it at the end as Ctrl-C does."""
    environment = os.environ | {
        "PICTOR_DATA_DIR": str(folder / "data"),
        "PICTOR_PORT": str(free_port()),
        "PICTOR_FLOWER_PORT": str(free_port()),
        "PICTOR_LOG_LEVEL": "INFO",
    } | extra  # fmt: skip
    measurements.share(folder / "data")
    log = folder / "up.log"
    command = [sys.executable, "manage.py", "up", "--no-picture", "--devices", devices]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Pictor was ready" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(POLL_SECONDS)
        key = (folder / "data/credentials/api_key").read_text().strip()
        url = f"http://127.0.0.1:{environment['PICTOR_PORT']}"
        with (
            closing(Inspector(environment)) as inspector,
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client,
        ):
            yield Running(process=process, environment=environment, client=client, log=log, inspector=inspector)
    finally:
        process.terminate()
        process.wait()
