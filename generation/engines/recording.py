"""A forward as a CUDA graph with input and output buffers of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree

from generation.engines.rows import Call

_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Recording:
    """What can be replayed with other values of the same shapes.

    What all rows have in common is read where it was when it was recorded, so it is kept, and nobody else has it.
    """

    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, ...]
    common: tuple[Any, ...]
    output: Any

    def replay(self, call: Call) -> Any:
        """The output for the call's rows, in memory of its own: the next replay writes over the buffers."""
        for buffer, rows in zip(self.inputs, call.rows, strict=True):
            buffer.copy_(rows, non_blocking=True)  # type: ignore[arg-type]  # calls with lists are never recorded
        self.graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, self.output)


def record(call: Call, *, device: torch.device, pool: Any) -> Recording:
    """Record the call, which must have run before. Raises RuntimeError for what cannot be recorded.

    Recordings with the same pool share the memory of what happens inside of them, so no two may be replayed at once.
    """
    inputs = tuple(rows.to(device).clone() for rows in call.rows if isinstance(rows, torch.Tensor))
    common = tuple(leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in call.common)
    graph = torch.cuda.CUDAGraph()
    # Other threads go on launching and allocating meanwhile, which only the thread-local mode tolerates.
    with (
        _one_at_a_time,
        torch.cuda.graph(graph, pool=pool, stream=_stream(device), capture_error_mode="thread_local"),
    ):
        output = replace(call, rows=inputs, common=common).run()
    return Recording(graph, inputs, common, output)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
