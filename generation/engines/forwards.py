"""One forward of merged rows: in how many parts, padded to which bucket, from a graph or eagerly."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from generation.engines import device as devices
from generation.engines import rows
from generation.engines.callee import Company
from generation.engines.compiling import Compiler
from generation.engines.graphs import BUCKETS, Graphs
from generation.engines.rows import Call

logger = logging.getLogger(__name__)

UNMEASURED_ROWS = BUCKETS[-1]
ROOM_SECONDS = 60  # what had room for no longer than this has too little
TIMES_MEASURED = {"cuda": 3, "cpu": 1}  # the best counts: whatever else a machine does only makes it slower


class Forwards:
    """Runs merged calls in the batcher's thread.

    Where the memory does not suffice, graphs make room and the forward is repeated. If that does not help, or has not
    for long, what is being compiled gives way; then the rows are halved, and the knee is lower for a while. What cannot
    be halved is repeated if its model can save memory.
    """

    def __init__(self, device: torch.device, *, compiler: Compiler | None = None) -> None:
        self._device = device
        self._compiler = compiler
        self._graphs = Graphs(device, compiler=compiler) if device.type == "cuda" else None
        self._made_room_at = float("-inf")

    def most_rows(self, call: Call) -> int:
        """How many rows should share a forward with those of this call."""
        return call.most_rows or UNMEASURED_ROWS

    def __call__(self, call: Call) -> Any:
        """The output for all rows of the call. Raises what the module raises."""
        if not call.can_share:
            return self._whole(call)
        is_repeated = False
        while True:
            fitting = _most_in_memory(call)
            try:
                return self._in_parts(call, fitting)
            except Exception as error:
                if not devices.is_out_of_memory(error) or not self._find_room(call, fitting, is_repeated=is_repeated):
                    raise
            self.free_memory()
            is_repeated = True
            self._made_room_at = time.monotonic()

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """No forward in the block is replaced by a compiled one, which would take another time and give other bits."""
        if self._graphs is None:
            yield
            return
        self._graphs.takes_compiled = False
        try:
            yield
        finally:
            self._graphs.takes_compiled = True

    def forget(self, callees: Collection[str]) -> None:
        """Free what is kept for callees of these names."""
        if self._graphs is not None:
            self._graphs.forget(callees)

    def free_memory(self) -> None:
        """Free what can be made again."""
        if self._graphs is not None:
            self._graphs.forget_all()
        devices.free_memory(self._device)

    def seconds_of(self, call: Call) -> float:
        """How long the forward takes once it is warm. Raises MemoryError where it does not fit."""
        if (seconds := self._try_seconds_of(call)) is not None:
            return seconds
        self.free_memory()  # the error, which kept what the forward had made, is gone by now
        if (seconds := self._try_seconds_of(call)) is None and self._stop_compiling():
            self.free_memory()
            seconds = self._try_seconds_of(call)
        if seconds is None:
            raise MemoryError
        return seconds

    def _whole(self, call: Call) -> Any:
        """The output of a call that was not taken apart."""
        try:
            return call.run()
        except Exception as error:
            if not devices.is_out_of_memory(error) or not self._stop_compiling():
                raise
        self.free_memory()
        return call.run()

    def _stop_compiling(self) -> bool:
        """Whether something was being compiled."""
        if self._compiler is None or not self._compiler.give_way():
            return False
        logger.warning("Out of memory: what was being compiled has given way.")
        return True

    def _find_room(self, call: Call, fitting: int, *, is_repeated: bool) -> bool:
        """Whether the call is worth another try, once what can be made again is freed."""
        # Graphs that are recorded again at once would have to make way at every step.
        is_too_little = is_repeated or time.monotonic() - self._made_room_at < ROOM_SECONDS
        if is_too_little and (self._stop_compiling() or self._halve(call, fitting)):
            return True
        if is_repeated:
            return call.layout.callee.save_memory()
        logger.warning("Out of memory: what can be made again makes way for %s.", call.shape)
        return True

    def _halve(self, call: Call, fitting: int) -> bool:
        """Whether fewer rows will do."""
        if call.layout.company is not Company.ANY or fitting == 1:
            return False
        logger.warning("Out of memory: from now on %s rows of %s share a forward.", fitting // 2, call.shape)
        call.layout.callee.limits.lower(call, fitting // 2)
        return True

    def _try_seconds_of(self, call: Call) -> float | None:
        try:
            for _ in range(2 if self._graphs is not None else 0):  # the first is eager, the second records the graph
                self._run(call)
            return min(self._seconds_of_one(call) for _ in range(TIMES_MEASURED[self._device.type]))
        except Exception as error:
            if not devices.is_out_of_memory(error):
                raise
            return None

    def _seconds_of_one(self, call: Call) -> float:
        devices.synchronize(self._device)
        started = time.perf_counter()
        self._run(call)
        devices.synchronize(self._device)
        return time.perf_counter() - started

    def _in_parts(self, call: Call, fitting: int) -> Any:
        if call.count <= fitting:
            return self._run(call)
        parts = [call.part(start, min(start + fitting, call.count)) for start in range(0, call.count, fitting)]
        outputs = [rows.split(self._run(part), among=[part])[0] for part in parts]
        return rows.join(outputs, lists=call.layout.takes_lists)

    def _run(self, call: Call) -> Any:
        """The padding stays in the output, for whoever splits it to drop."""
        if call.layout.company is Company.FIXED:
            call = call.padded(call.layout.callee.fixed_count)
        if self._graphs is None:
            return call.run()
        bucket = next((bucket for bucket in BUCKETS if bucket >= call.count), call.count)
        return self._graphs.run(call if call.layout.takes_lists else call.padded(bucket))


def _most_in_memory(call: Call) -> int:
    """How many rows of the call one forward holds: all, as long as memory has not run out."""
    callee = call.layout.callee
    if call.layout.company is Company.FIXED:
        return callee.fixed_count
    if call.layout.company is Company.NONE:
        return call.count
    return min(call.count, callee.limits.most_in_memory(call) or call.count)
