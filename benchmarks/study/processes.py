"""The processes of a topology: started, killed, and what they take of processor and memory."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 20


@dataclass
class Started:
    """A process that was started here, with all that it starts itself."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """kill -9, without a word."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, as a supervisor does at a new release; returns when it has ended."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def tree(self) -> list[psutil.Process]:
        """It and its descendants, as far as they live."""
        return tree_of(self.process.pid)


def start(name: str, command: list[str], *, folder: Path, **environment: str) -> Started:
    """Start a process in the project's folder; what it says goes to a file in `folder`."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
        )
    return Started(name, process, log)


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """What they have taken of the processor until now."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_mib(processes: list[psutil.Process]) -> float:
    """Memory that they hold, in MiB; what several share is counted once among them (PSS)."""
    total = 0
    for process in processes:
        try:
            held = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(held, "pss", held.rss)
    return total / 2**20


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that others started."""
    os.kill(pid, number)
