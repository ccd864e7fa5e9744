"""Work on the device beside the forwards: it waits for them, and they never wait for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

Copies = Callable[[], list[torch.Tensor]]


def fetch(work: Callable[[], Sequence[torch.Tensor]], *, device: torch.device) -> list[torch.Tensor]:
    """Copies on the host of what `work` makes out of everything that this thread has launched so far.

    On a GPU the work and the copies run in a stream of their own, and only the calling thread waits for them.
    """
    return start_fetch(work, device=device)()


def start_fetch(work: Callable[[], Sequence[torch.Tensor]], *, device: torch.device) -> Copies:
    """Begin with that; any thread may wait for the copies.

    Until then nobody may write into what `work` gives; what it refers to is kept until then.
    """
    if device.type == "cuda":
        launched = torch.cuda.Event()
        launched.record(torch.cuda.current_stream(device))
        _stream(device).wait_event(launched)
    return _start(work, device=device)


def fetch_finished(work: Callable[[], Sequence[torch.Tensor]], *, device: torch.device) -> list[torch.Tensor]:
    """The same of what the device has finished: forwards that were launched meanwhile are not waited for."""
    return _start(work, device=device)()


def _start(work: Callable[[], Sequence[torch.Tensor]], *, device: torch.device) -> Copies:
    if device.type != "cuda":
        ready = [tensor.detach().to("cpu", copy=True) for tensor in work()]
        return lambda: ready
    with torch.cuda.device(device), torch.cuda.stream(_stream(device)):
        originals = [tensor.detach() for tensor in work()]
        kept: list[object] = [work, originals]
        copies = [_start_copy(tensor) for tensor in originals]
        # A blocking event sleeps instead of spinning: the launches of other threads need the processor.
        done = torch.cuda.Event(blocking=True)
        done.record()

    def wait() -> list[torch.Tensor]:
        done.synchronize()
        kept.clear()  # memory that belongs to another stream, which could have used it again before
        return [copy.clone() for copy in copies]  # pinned memory is for the next copy, not to be kept

    return wait


def _start_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy to pinned memory, the only kind that the host need not wait for."""
    if tensor.device.type == "cpu":
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
