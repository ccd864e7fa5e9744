"""A forward as a CUDA graph with input and output buffers of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from generation.engines.device import while_nothing_is_recorded
from generation.engines.rows import Call, tensors


class Pool:
    """Memory and a stream that recordings have in common, so no two of them may be replayed at once.

    cuBLAS keeps a workspace for each stream, in the memory of whatever is recorded there first.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.handle = torch.cuda.graph_pool_handle()
        self._failed: list[torch.cuda.CUDAGraph] = []

    def renew_after(self, graph: torch.cuda.CUDAGraph) -> None:
        """Be other memory if the graph's capture did not end: PyTorch takes that of then for in use, for ever.

        Its allocator goes on asking the graph which streams it captures, so the graph has to stay, too.
        """
        try:
            graph.pool()
        except RuntimeError:
            self._failed.append(graph)
            self.handle = torch.cuda.graph_pool_handle()


@dataclass(frozen=True, slots=True)
class Recording:
    """What can be replayed with other values of the same shapes.

    What all rows have in common is read where it was when it was recorded, so it is kept, and nobody else has it.
    """

    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, ...]
    common: tuple[Any, ...]
    output: Any

    def hand_over(self) -> None:
        """From now on this thread's stream uses the buffers, which were made on another one."""
        for buffer in tensors((self.inputs, self.common)):
            if buffer.is_cuda:
                buffer.record_stream(torch.cuda.current_stream(buffer.device))

    def replay(self, call: Call) -> Any:
        """The output for the call's rows, in memory of its own: the next replay writes over the buffers."""
        for buffer, rows in zip(self.inputs, call.rows, strict=True):
            buffer.copy_(rows, non_blocking=True)  # type: ignore[arg-type]  # calls with lists are never recorded
        self.graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, self.output)


def record(call: Call, *, device: torch.device, pool: Pool) -> Recording:
    """Record the call, which must have run before. Raises RuntimeError for what cannot be recorded."""
    inputs = tuple(rows.to(device).clone() for rows in call.rows if isinstance(rows, torch.Tensor))
    common = tuple(leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in call.common)
    graph = torch.cuda.CUDAGraph()
    try:
        # The stream is set out here as well, because PyTorch's capture leaves it set when it fails. Other threads go on
        # launching and allocating meanwhile, which only the thread-local mode tolerates.
        with (
            while_nothing_is_recorded,
            torch.cuda.stream(pool.stream),
            torch.cuda.graph(graph, pool=pool.handle, stream=pool.stream, capture_error_mode="thread_local"),
        ):
            output = replace(call, rows=inputs, common=common).run()
    except Exception:
        pool.renew_after(graph)
        raise
    return Recording(graph, inputs, common, output)
