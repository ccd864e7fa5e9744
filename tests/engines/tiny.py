"""Modules of a few weights with the signatures of denoisers, and a batcher for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from generation.engines.batching import Batcher
from generation.engines.callee import Callee, Company
from generation.engines.flight import Flight
from generation.engines.forwards import Forwards
from generation.engines.limits import Limits
from generation.engines.rows import Call, Disassembler

CPU = torch.device("cpu")
WIDTH = 4


class AtMost:
    """A number of rows that is known and never changes."""

    def __init__(self, count: int | None) -> None:
        self._count = count

    def of(self, call: Call) -> int | None:
        return self._count

    def most_in_memory(self, call: Call) -> None:
        return None

    def lower(self, call: Call, count: int) -> None:
        raise AssertionError("memory was not to run out")


class Denoiser(torch.nn.Module):
    """Treats each row by itself, and notes the number of rows of each forward.

    Closing `gate` holds the next forwards back; `has_entered` tells that one is there.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(WIDTH, WIDTH)
        self.counts: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.has_entered = threading.Event()

    def forward(
        self, sample: torch.Tensor, timestep: Any, scale: float = 1.0, img_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor]:
        self.counts.append(len(sample))
        self.has_entered.set()
        assert self.gate.wait(60)
        time = torch.as_tensor(timestep).reshape(-1, 1)
        moved = sample if img_ids is None else sample + img_ids.sum()
        return (scale * self.linear(moved) + time,)


class Conditioned(torch.nn.Module):
    """As a UNet has it: conditions in a dict, and residuals in a tuple."""

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: dict[str, torch.Tensor],
        residuals: Any = (),
    ) -> tuple[torch.Tensor]:
        conditions = added_cond_kwargs["text_embeds"] + encoder_hidden_states
        return (sample * timestep[:, None] + conditions + sum(residuals),)


def callee_of(module: Any, *, name: str = "denoiser", limits: Limits | None = None, **options: Any) -> Callee:
    """The module as a callee, by default of as many rows as one likes."""
    return Callee.of(module, name=name, limits=limits or AtMost(None), **options)


def take_apart(callee: Callee, *args: Any, company: Company = Company.ANY, **kwargs: Any) -> Call:
    """A call with these arguments."""
    return Disassembler(callee, company=company).take_apart(*args, **kwargs)


def sample(count: int = 1, *, seed: int = 0) -> torch.Tensor:
    """Rows of noise."""
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


class Threads:
    """A batcher on the CPU, and threads that ask it."""

    def __init__(self, batcher: Batcher, pool: ThreadPoolExecutor) -> None:
        self.batcher = batcher
        self._pool = pool

    def start(self, call: Call, **options: Any) -> Future[Any]:
        """Ask in a thread."""
        return self._pool.submit(self.batcher.run, call, **options)

    def ask(self, call: Call, **options: Any) -> Future[Any]:
        """Ask in a thread, and return once the call waits, as it must have to, or has been answered."""
        known = self._known()
        answer = self.start(call, **options)
        answer.add_done_callback(lambda _: self._look_again())
        self.wait_until(lambda: answer.done() or self._known() > known)
        return answer

    def wait_until(self, condition: Any) -> None:
        """Wait until something is true of the batcher."""
        with self.batcher._changed:
            assert self.batcher._changed.wait_for(condition, timeout=60)

    def let_it_look(self) -> None:
        """Return once the batcher has looked at all that waits, and has taken from it what it would take."""
        self.batcher.run_alone(lambda: None)

    def membership(self) -> Any:
        """A member's."""
        return self.batcher.membership()

    def _known(self) -> int:
        waiting = sum(len(requests) for requests in self.batcher._waiting.values())
        return waiting + len(self.batcher._queue)

    def _look_again(self) -> None:
        with self.batcher._changed:
            self.batcher._changed.notify_all()


@contextmanager
def open_threads() -> Iterator[Threads]:
    """A batcher for the length of the block."""
    batcher = Batcher(Forwards(CPU), flight=Flight(CPU), name="tiny")
    with ThreadPoolExecutor(16) as pool:
        try:
            yield Threads(batcher, pool)
        finally:
            batcher.close()


def keep_busy(threads: Threads, denoiser: Denoiser) -> None:
    """Have a forward run that does not end before the denoiser's gate is opened."""
    denoiser.gate.clear()
    denoiser.has_entered.clear()
    threads.start(take_apart(callee_of(denoiser, name="busy"), sample(), 0.0))
    assert denoiser.has_entered.wait(60)
    denoiser.counts.clear()


class Cancelled(Exception):
    """What a generation that nobody wants any more raises."""


def cancel() -> None:
    """Raise Cancelled."""
    raise Cancelled
