"""Loads: requests that are sent when their time comes, whatever has become of the ones before."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Thread
from typing import Protocol

import psutil

from benchmarks.study.ledger import Ledger, Request

MOST_THREADS = 1200
SAMPLE_SECONDS = 1.0


class Target(Protocol):
    """A topology, seen by its clients."""

    name: str

    def send(self, request: Request) -> None:
        """Send it and wait for the answer, whatever that means here; notes in the request how it ended."""

    def settle(self, ledger: Ledger) -> None:
        """Wait until nothing is under way any more, and note the ends that `send` could not see."""

    def waiting(self, ledger: Ledger) -> int:
        """How many were accepted and have not ended."""

    def processes(self) -> list[psutil.Process]:
        """All that it consists of, without the clients."""


@dataclass(frozen=True)
class Sample:
    """How many waited at a moment, in seconds after the start."""

    seconds: float
    waiting: int


def offer(
    target: Target, *, per_second: float, seconds: float, at: Mapping[float, Callable[[], None]] | None = None
) -> tuple[Ledger, list[Sample]]:
    """Send so many requests a second for so long, and do what `at` says at its moments; returns before all has ended.

    What the events do happens on a thread of its own: the load goes on.
    """
    ledger, samples = Ledger(), []
    started = time.time()
    happenings = Thread(target=happen, args=(at or {}, started))
    happenings.start()
    pool = ThreadPoolExecutor(max_workers=MOST_THREADS)
    next_sample = 0.0
    for number in range(round(per_second * seconds)):
        time.sleep(max(0.0, started + number / per_second - time.time()))
        pool.submit(target.send, ledger.new())
        elapsed = time.time() - started
        if elapsed >= next_sample:
            samples.append(Sample(elapsed, target.waiting(ledger)))
            next_sample += SAMPLE_SECONDS
    happenings.join()
    pool.shutdown(wait=False)
    return ledger, samples


def drain(target: Target, ledger: Ledger, samples: list[Sample], *, patience_seconds: float) -> None:
    """Wait until nothing waits any more, and sample meanwhile; then settle."""
    first = ledger.requests[0].sent_at
    gives_up_at = time.time() + patience_seconds
    while (waiting := target.waiting(ledger)) and time.time() < gives_up_at:
        samples.append(Sample(time.time() - first, waiting))
        time.sleep(SAMPLE_SECONDS)
    samples.append(Sample(time.time() - first, target.waiting(ledger)))
    target.settle(ledger)


def all_at_once(target: Target, count: int, *, clients: int) -> Ledger:
    """So many requests as fast as `clients` can send them; returns when each has its first answer."""
    ledger = Ledger()
    with ThreadPoolExecutor(max_workers=clients) as pool:
        for _ in range(count):
            pool.submit(target.send, ledger.new())
    return ledger


def happen(at: Mapping[float, Callable[[], None]], started: float) -> None:
    """Do each thing at its moment."""
    for moment in sorted(at):
        time.sleep(max(0.0, started + moment - time.time()))
        at[moment]()
