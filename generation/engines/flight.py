"""How far the host may run ahead of the device, and what waits for what between their streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from generation.engines.rows import Call


class Flight:
    """Keeps the host at most one forward ahead of the device; on a CPU, which is never behind, it does nothing.

    Without it Python would run many steps ahead of a GPU: progress would lie and a cancel would come too late.
    With a stream of its own, forwards run beside those of other batchers, and each waits for its inputs only.
    """

    MOST_IN_FLIGHT = 2

    def __init__(self, device: torch.device, *, has_own_stream: bool = False) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._is_cuda and has_own_stream else None
        self._in_flight: deque[tuple[torch.cuda.Event, list[Call]]] = deque()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Run what is in the block on the device, in the right stream."""
        if not self._is_cuda:
            yield
            return
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    def mark(self) -> torch.cuda.Event | None:
        """All that this thread has launched so far, for another stream to wait for."""
        if not self._is_cuda:
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait_for(self, marks: Iterable[torch.cuda.Event | None]) -> None:
        """Have the stream wait for the inputs, unless they come from the same one."""
        if self._stream is not None:
            for mark in marks:
                if mark is not None:
                    self._stream.wait_event(mark)

    def depart(self, calls: list[Call]) -> torch.cuda.Event | None:
        """What was launched last is one forward; its inputs are kept until it is finished."""
        event = self.mark()
        if event is not None:
            self._in_flight.append((event, calls))
        return event

    def arrive(self, output: Any, *, departed: torch.cuda.Event | None) -> None:
        """Wait until outputs that another stream makes are there; those of the same one need no waiting."""
        if self._stream is not None and departed is not None:
            departed.synchronize()
            reader = torch.cuda.current_stream(self._device)
            for tensor in _tensors_within(output):
                # Freed by this thread, its memory would go to the next forward before this stream has read it.
                tensor.record_stream(reader)

    def wait_for_room(self) -> None:
        """Wait until one more forward may be launched."""
        while len(self._in_flight) >= self.MOST_IN_FLIGHT:
            self._in_flight.popleft()[0].synchronize()

    def is_idle(self) -> bool:
        """Whether the device has finished everything."""
        while self._in_flight and self._in_flight[0][0].query():
            self._in_flight.popleft()
        return not self._in_flight


def _tensors_within(output: Any) -> Iterator[torch.Tensor]:
    """Every tensor, also those of objects like the distribution that a VAE encodes to."""
    for leaf in pytree.tree_leaves(output):
        values = (leaf,) if isinstance(leaf, torch.Tensor) else getattr(leaf, "__dict__", {}).values()
        yield from (value for value in values if isinstance(value, torch.Tensor))
