"""The balancer as a target: nginx in front of model servers, and clients that wait for their picture."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import local

import psutil

from benchmarks.study.connections import own_connection
from benchmarks.study.ledger import LOST, OK, REFUSED, WAITING, Ledger, Request
from benchmarks.study.processes import ROOT, Started, start
from benchmarks.study.servers import ModelServer
from deploy.balancer.client import Refused, draw, wishes
from tests.ports import free_port

PATIENCE_SECONDS = 60.0  # as clients of HTTP have it
REFUSALS = (429, 502, 503)
UNDER_WAY_SECONDS = 0.25  # a refusal comes at once; an error later means that a server had begun


class BalancerTarget:
    """nginx and its servers. What is neither a picture nor a refusal within a minute is lost."""

    def __init__(
        self, name: str, nginx: Started, servers: list[ModelServer], *, port: int, steps: int, size: int
    ) -> None:
        self.name = name
        self.nginx = nginx
        self.servers = servers
        self.port = port
        self._wishes = wishes("a red apple", num_inference_steps=steps, width=size, height=size)
        self._own = local()

    def send(self, request: Request) -> None:
        """Ask and wait."""
        connection = own_connection(self._own, "127.0.0.1", self.port, seconds=PATIENCE_SECONDS)
        try:
            draw(connection, self._wishes | {"seed": request.number})
        except Refused as error:
            was_under_way = time.time() - request.sent_at > UNDER_WAY_SECONDS
            request.end(LOST if error.status not in REFUSALS or was_under_way else REFUSED)
        except (OSError, HTTPException):
            connection.close()
            request.end(LOST)
        else:
            request.end(OK)

    def waiting(self, ledger: Ledger) -> int:
        """Requests that are under way."""
        return sum(request.outcome == WAITING for request in list(ledger.requests))

    def settle(self, ledger: Ledger) -> None:
        """Wait for the last answer."""
        while self.waiting(ledger):
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """nginx and the model servers."""
        return [*self.nginx.tree(), *(one for server in self.servers for one in server.started.tree())]


@contextmanager
def running_balancer(
    name: str,
    folder: Path,
    servers: list[ModelServer],
    *,
    at_once: int,
    steps: int,
    size: int = 256,
    repeats: bool = False,
) -> Iterator[BalancerTarget]:
    """nginx for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--at-once", str(at_once), "--folder", str(folder / "nginx")]
    options += ["--repeat"] if repeats else []
    script = str(ROOT / "deploy/balancer/balancer.py")
    nginx = start("nginx", [sys.executable, script, *options, *(server.url for server in servers)], folder=folder)
    try:
        wait_for_port(port)
        yield BalancerTarget(name, nginx, servers, port=port, steps=steps, size=size)
    finally:
        nginx.stop()


def wait_for_port(port: int) -> None:
    """Wait until something listens."""
    gives_up_at = time.monotonic() + 10
    while time.monotonic() < gives_up_at:
        connection = HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.connect()
            return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise AssertionError("nginx did not start.")
