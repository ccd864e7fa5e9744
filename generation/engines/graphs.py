"""CUDA graphs: a forward recorded once per (module, shapes, number of rows) and replayed without Python.

Launching the kernels of a forward one by one takes Python longer than the GPU needs to run them, unless the batch
is large. A replay gives the very bits of the eager forward. https://docs.pytorch.org/docs/stable/notes/cuda.html
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from generation.engines.callee import Company
from generation.engines.compiling import Compiler
from generation.engines.packages import MOST_ROWS
from generation.engines.recording import Pool, Recording, record
from generation.engines.rows import Call

logger = logging.getLogger(__name__)

# Rows are padded to one of these, for which there is a graph; the steps are fine where padding would cost most.
BUCKETS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32)
MOST_GRAPHS = 32
MOST_SEEN = 1024
REPLAYS_WORTH_COMPILING = 50


@dataclass(slots=True)
class _Kept:
    """A recording, or None for what cannot be recorded."""

    recording: Recording | None
    is_compiled: bool = False
    replays: int = 0  # since it may be compiled


class Graphs:
    """The graphs of one device, the least recently used of which make way; only its batcher's thread calls it.

    The first forward of its kind runs eagerly, which also is the warm-up that a recording needs; the second
    is recorded. What cannot be recorded (it waits for the GPU, say) stays eager. What is replayed often is
    compiled beside that, if there is a compiler, and from then on recordings of the compiled forward are replayed.
    """

    def __init__(self, device: torch.device, *, compiler: Compiler | None = None, most: int = MOST_GRAPHS) -> None:
        self._device = device
        self._compiler = compiler
        self._most = most
        self._kept: OrderedDict[Any, _Kept] = OrderedDict()
        self._seen: set[Any] = set()
        self._pool = Pool(device)
        self.takes_compiled = True  # or they are neither asked for nor taken into use

    def run(self, call: Call) -> Any:
        """The output of the call; it may be kept."""
        if not call.can_share or call.layout.takes_lists:
            return call.run()
        key = (call.key, call.count)
        if key not in self._kept:
            if key not in self._seen:
                if len(self._seen) >= MOST_SEEN:  # somebody sends another common value each time
                    self._seen.clear()
                self._seen.add(key)
                return call.run()
            self._record(key, call)
        self._kept.move_to_end(key)
        may_compile = call.layout.company is Company.ANY and call.count <= MOST_ROWS
        if self._compiler is not None and self.takes_compiled and may_compile:
            self._have_compiled(call, compiler=self._compiler)
        kept = self._kept[key]
        if kept.recording is None:
            return call.run()
        kept.replays += self.takes_compiled
        return kept.recording.replay(call)

    def forget(self, callees: Collection[str]) -> None:
        """Free the graphs of callees of these names."""
        self._kept = OrderedDict((of, kept) for of, kept in self._kept.items() if of[0].callee not in callees)
        self._seen = {of for of in self._seen if of[0].callee not in callees}

    def forget_all(self) -> None:
        """Free every graph; what is still wanted is recorded anew."""
        self._kept.clear()

    def _have_compiled(self, call: Call, *, compiler: Compiler) -> None:
        """Ask for what calls like this one are replayed with, and use it once it is there."""
        kept = self._kept[call.key, call.count]
        is_often = kept.replays > 0 and kept.replays % REPLAYS_WORTH_COMPILING == 0
        if not kept.is_compiled and (is_often or (kept.replays == 1 and compiler.has(call))):
            compiler.want(call, counts=_counts_beside(call), pool=self._pool)
        for count, recording in compiler.take(call).items():
            recording.hand_over()
            self._keep((call.key, count), _Kept(recording, is_compiled=True))

    def _keep(self, key: Any, kept: _Kept) -> None:
        self._kept.pop(key, None)
        while len(self._kept) >= self._most:
            self._kept.popitem(last=False)
        self._kept[key] = kept

    def _record(self, key: Any, call: Call) -> None:
        started = time.perf_counter()
        try:
            self._keep(key, _Kept(record(call, device=self._device, pool=self._pool)))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            logger.warning("%s stays without CUDA graph: %s", call.shape, str(error).partition("\n")[0])
            self._keep(key, _Kept(None))
            return
        logger.info("Recorded %s rows of %s in %.2f s.", call.count, call.shape, time.perf_counter() - started)


def _counts_beside(call: Call) -> list[int]:
    """The numbers of rows that one compilation serves: of those that share a forward, and of the call itself."""
    if call.count == 1:
        return [1]
    most_rows = max(call.count, call.most_rows or call.count)
    return sorted({call.count, *(bucket for bucket in BUCKETS if 1 < bucket <= most_rows)})
