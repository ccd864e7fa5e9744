"""Processes that are born with their imports: forks of one that has loaded what all of them load.

A worker takes 6 s of a processor to import PyTorch and diffusers, and the tests of failures start dozens of workers.
Settings, Django's applications and all else that depends on the environment are imported after the fork.
"""

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02
FIRST = (
    "generation.engines.engine", "diffusers", "transformers",
    "celery.bin.worker", "celery.apps.worker", "celery.worker.consumer",
    "django.core.management", "django.forms", "rest_framework", "servestatic", "uvicorn",
    "psycopg.types.numeric", "redis.asyncio", "httpx",
)  # fmt: skip


class Forked:
    """What subprocess.Popen is of other processes, as far as the tests need it."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return self.returncode or 0

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens to one that has ended: until `poll` says so its number belongs to nobody else."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that is forked, and the way to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.faults.forking", str(theirs.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._lines = ours.makefile("rw")
        ours.close()

    def ask(self, question: dict[str, Any]) -> Any:
        """The answer to one line of JSON."""
        self._lines.write(json.dumps(question) + "\n")
        self._lines.flush()
        answer = self._lines.readline()
        assert answer, "The process that is forked has died."
        return json.loads(answer)

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Forked:
        """Start `-m module ...` or `script ...` of Python in a fork, which writes to the end of `log`."""
        pid = self.ask({"command": list(command), "environment": dict(environment), "log": str(log)})
        return Forked(self, pid)

    def close(self) -> None:
        """End it; what it has started runs on."""
        self._lines.close()
        self._process.wait()


@cache
def the_nursery() -> Nursery:
    """The one of this test process."""
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery


def serve(lines: Any) -> list[str] | None:
    """Answer questions until there are no more; in a fork the command that it is to run is returned."""
    for line in lines:
        question = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                become(question["environment"], question["log"])
                return question["command"]
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
    return None


def become(environment: dict[str, str], log: str) -> None:
    """Take on what subprocess.Popen would have given a new process, and chance of its own."""
    np.random.seed()
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def main() -> None:
    """Import, serve, and, in a fork, run the command as Python itself would."""
    for name in FIRST:
        __import__(name)
    # Both load what they are made of when it is first asked for.
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    channel = socket.socket(fileno=int(sys.argv[1]))
    lines = channel.makefile("rw")
    command = serve(lines)
    if command is None:
        return
    lines.close()
    channel.close()
    match command:
        case ["-m", module, *options]:
            sys.argv = [module, *options]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *options]:
            sys.argv = [script, *options]
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
