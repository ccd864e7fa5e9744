"""Forwards that are replayed often get compiled, beside the running service.

One compilation serves every number of rows of a shape. `packages` makes it, in a process of its own; what it made is
kept on disk, compared with the eager forward, and recorded here for each number of rows.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from generation.engines import packages, rows
from generation.engines.equivalence import relative_error, tolerated_error
from generation.engines.recording import Pool, Recording, record
from generation.engines.rows import Call
from generation.engines.standins import DENOISERS
from generation.engines.types import Pipeline

logger = logging.getLogger(__name__)

SECONDS_TO_END = 30


@dataclass(frozen=True, slots=True)
class _Job:
    """A call to compile, and the numbers of its rows to record; `epoch` tells whether it was forgotten since."""

    call: Call
    is_made: torch.cuda.Event  # the call's rows are made on another stream
    counts: Sequence[int]
    pool: Pool
    epoch: int


class Compiler:
    """Compiles one call after another, and keeps the packages in `folder`."""

    def __init__(self, device: torch.device, *, folder: Path) -> None:
        self._device = device
        self._folder = folder
        self._wanted: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: dict[Any, dict[int, Recording]] = {}
        self._asked: set[Any] = set()  # what is being compiled, and what will not be again
        self._loaded: WeakKeyDictionary[torch.nn.Module, dict[Path, Callable[..., Any]]] = WeakKeyDictionary()
        self._epoch = 0
        self._changing = threading.Lock()
        self._is_at_rest = threading.Event()  # nothing is being built
        self._is_at_rest.set()
        self._gives_way = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="compiler", daemon=True)
        self._thread.start()

    def prepare(self, pipe: Pipeline) -> None:
        """Lay the weights out as compiled forwards read them; to be done before anything is recorded."""
        for name in (*DENOISERS, "vae"):
            part = getattr(pipe, name, None)
            if part is not None:
                packages.lay_out(part)

    def has(self, call: Call) -> bool:
        """Whether calls like this one were compiled before, so that having them is a matter of seconds."""
        return packages.path_of(call, device=self._device, folder=self._folder).exists()

    def want(self, call: Call, *, counts: Sequence[int], pool: Pool) -> None:
        """Have calls like this one compiled, and recorded with each of these numbers of rows; returns at once.

        Nothing happens while that is under way, or after it has failed.
        """
        if _kind(call) in self._asked:
            return
        self._asked.add(_kind(call))
        # Their own memory, in plain order: a view of one number for all rows would be compiled as such.
        copies = (part.clone(memory_format=torch.contiguous_format) for part in call.rows if not isinstance(part, list))
        call = replace(call, rows=tuple(copies))
        is_made = torch.cuda.current_stream(self._device).record_event()
        self._wanted.put(_Job(call, is_made, counts, pool, self._epoch))

    def take(self, call: Call) -> Mapping[int, Recording]:
        """The recordings of calls like this one by their number of rows, once, when they are ready."""
        if not self._ready or _kind(call) not in self._ready:  # asked at each step, and most often there is nothing
            return {}
        self._asked.discard(_kind(call))
        return self._ready.pop(_kind(call))

    def forget(self) -> None:
        """Drop what is wanted and what is ready: it may be of a model that is in memory no more."""
        with self._changing:
            self._epoch += 1
            self._ready.clear()
            self._asked.clear()

    def give_way(self) -> bool:
        """Whether something was being built, whose memory on the device is free now; it is not built again."""
        if self._is_at_rest.is_set():
            return False
        self._gives_way = True
        return self._is_at_rest.wait(SECONDS_TO_END)

    def close(self) -> None:
        """Compile nothing more, and end the process that does."""
        self.forget()
        self._is_closed = True
        self._wanted.put(None)
        self._thread.join(SECONDS_TO_END)

    def _work(self) -> None:
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.device(self._device), torch.cuda.stream(stream), torch.no_grad():
            while (wanted := self._wanted.get()) is not None and not self._is_closed:
                try:
                    self._do(wanted)
                except Exception as error:  # whatever it is, the eager forward goes on working
                    if not self._is_closed:
                        logger.warning("%s stays uncompiled: %s", wanted.call.shape, str(error).partition("\n")[0])
                del wanted  # it holds the module

    def _do(self, job: _Job) -> None:
        """What was forgotten meanwhile is neither begun nor handed out."""
        if job.epoch != self._epoch:
            return
        job.is_made.wait()
        file = packages.path_of(job.call, device=self._device, folder=self._folder)
        if not file.exists():
            self._build(job.call, file=file)
        recordings = self._record(job, self._load(file, job.call.layout.callee.function))
        with self._changing:  # or what is being forgotten could be handed out after all
            if job.epoch == self._epoch:
                self._ready[_kind(job.call)] = recordings

    def _build(self, call: Call, *, file: Path) -> None:
        started = time.perf_counter()
        self._gives_way = False
        self._is_at_rest.clear()
        try:
            packages.build(
                call, device=self._device, file=file, is_wanted=lambda: not (self._is_closed or self._gives_way)
            )
        finally:
            self._is_at_rest.set()
        logger.info("Compiled %s in %.0f s.", call.shape, time.perf_counter() - started)

    def _load(self, file: Path, function: Callable[..., Any]) -> Callable[..., Any]:
        """The compiled function; once for each module, for what was loaded stays in memory."""
        loaded = self._loaded.setdefault(packages.module_of(function), {})
        if file not in loaded:
            loaded[file] = packages.load(file, function=function, device=self._device)
        return loaded[file]

    def _record(self, job: _Job, function: Callable[..., Any]) -> dict[int, Recording]:
        """Recordings of the compiled forward for each number of rows, compared with the eager one first."""
        probe = Probe(job.call, least_rows=min(job.counts))
        recordings, worst = {}, 0.0
        for count in job.counts:
            call = probe.call(count).to(function)
            if not (error := probe.error_of(call)) <= probe.tolerated_error:
                raise RuntimeError(f"compiled, its output for {count} rows differs by {error:.1e}")
            worst = max(worst, error)
            recordings[count] = record(call, device=self._device, pool=job.pool)
        counts = ", ".join(map(str, job.counts))
        logger.info("Recorded %s rows of %s, compiled: %.1e off at most.", counts, job.call.shape, worst)
        return recordings


class Probe:
    """Calls of which all rows but the last are the same, and what the eager forward gives for either kind.

    So two eager forwards tell what each row should be, whatever their number: they take thousands of turns with the
    other threads, and the compiled ones none.
    """

    def __init__(self, call: Call, *, least_rows: int) -> None:
        row = call.part(0, 1)
        halves = (part * 0.5 if part.is_floating_point() else part for part in row.rows if not isinstance(part, list))
        self._kinds = (row, replace(row, rows=tuple(halves)))  # another picture, prompt and time
        self._expected = [_output(kind.padded(least_rows)) for kind in self._kinds]
        self.tolerated_error = tolerated_error(self._expected[0])

    def call(self, count: int) -> Call:
        """The call with so many rows."""
        row, last = self._kinds
        return rows.merge([row] * (count - 1) + [last])

    def error_of(self, call: Call) -> float:
        """How far the output of this call is from what it should be, in its first and its last row."""
        output, places = _output(call), (slice(0, 1), slice(-1, None))
        kinds = self._expected if call.count > 1 else self._expected[-1:] * 2
        ends = ([tensor[place] for tensor in rows.tensors(output)] for place in places)
        wanted = ([tensor[:1] for tensor in rows.tensors(expected)] for expected in kinds)
        errors = [relative_error(one, other) for one, other in zip(wanted, ends, strict=True)]
        return float(torch.tensor(errors).max())  # NaN if one of them is, unlike Python's


def _kind(call: Call) -> Any:
    """What one compilation is good for: any number of rows but one, whose kernels know that it is one."""
    return call.key, call.count == 1


def _output(call: Call) -> Any:
    return rows.split(call.run(), among=[call])[0]
