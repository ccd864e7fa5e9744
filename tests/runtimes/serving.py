"""Model servers as processes of their own, for the tests of what talks to them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from generation.engines.errors import EngineError
from generation.runtimes.base import Runtime
from generation.runtimes.gateway.runtime import GatewayRuntime
from generation.runtimes.http import HttpRuntime
from generation.runtimes.uds import UdsRuntime
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 90
TIMED = "benchmarks.timed_engine:TimedEngine"


@dataclass
class ServerProcess:
    """A model server that answers HTTP and speaks frames; `start` again after `kill` is on the same addresses."""

    folder: Path
    port: int
    words: tuple[str, ...]
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        """Where it speaks frames."""
        return str(self.folder / "server.sock")

    def runtime(self, link: str) -> Runtime:
        """A runtime over one of the links."""
        token = self.env.get("PICTOR_RUNTIME_TOKEN", "")
        match link:
            case "uds":
                return UdsRuntime(self.socket)
            case "gateway":  # a pool of one
                server = HttpRuntime(self.url, token=token, waits_when_full=False)
                return GatewayRuntime({self.url: server}, check_seconds=0.1)
            case _:
                return HttpRuntime(self.url, token=token)

    def start(self) -> None:
        """Start it, and wait until it answers on both."""
        command = [sys.executable, "-m", "generation.runtimes.server", "--bind", f"127.0.0.1:{self.port}"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--uds", self.socket, *self.words], cwd=ROOT, env=os.environ | self.env, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        for link in ("http", "uds"):
            runtime = self.runtime(link)
            while True:
                with suppress(EngineError):
                    runtime.describe()
                    break
                log_text = (self.folder / "server.log").read_text()
                assert self.process.poll() is None and time.monotonic() < deadline, log_text
                time.sleep(0.05)
            runtime.close()

    def kill(self) -> None:
        """As a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As a supervisor does."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()


@contextmanager
def server_process(folder: Path, *words: str, **env: str) -> Iterator[ServerProcess]:
    """A running model server for the length of the block."""
    server = ServerProcess(folder, free_port(), words, env)
    try:
        server.start()
        yield server
    finally:
        server.stop()
