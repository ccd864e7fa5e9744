"""torch.compile of what is replayed often, beside the running service.

Compiling one number of rows of one shape takes about a minute, in another process first: what that makes is kept on
disk by PyTorch's own cache, so that here, and after the next start, it takes only seconds.
https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_tutorial.html
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

from generation.engines import rows
from generation.engines.equivalence import relative_error, tolerated_error
from generation.engines.recording import Recording, record
from generation.engines.rows import Call
from generation.engines.warming import warm

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A call to compile; `epoch` tells whether it was forgotten since."""

    key: Any
    call: Call
    pool: Any
    epoch: int


class Compiler:
    """Compiles one call after another, and keeps what PyTorch makes in `folder`.

    `while_compiling` is held meanwhile: loading changes torch's default dtype for the whole process.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        folder: Path | None,
        while_compiling: Callable[[], AbstractContextManager[None]],
    ) -> None:
        if folder is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        # Each number of rows of each shape counts as a compilation of the same code; the usual limit is 8.
        torch._dynamo.config.recompile_limit = 64
        self._device = device
        self._while_compiling = while_compiling
        self._wanted: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: dict[Any, Recording] = {}
        self._epoch = 0
        self._thread = threading.Thread(target=self._work, name="compiler", daemon=True)
        self._thread.start()

    def want(self, key: Any, call: Call, *, pool: Any) -> None:
        """Have calls like this one compiled and recorded with this pool; returns at once."""
        copies = tuple(part.clone() for part in call.rows if isinstance(part, torch.Tensor))
        self._wanted.put(_Job(key, replace(call, rows=copies), pool, self._epoch))

    def take(self, key: Any) -> Recording | None:
        """The recording of the compiled forward, once, when it is ready."""
        return self._ready.pop(key, None) if self._ready else None

    def forget(self) -> None:
        """Drop what is wanted and what is ready: it may be of a model that is in memory no more."""
        self._epoch += 1
        self._ready.clear()

    def close(self) -> None:
        """Compile nothing more; what is being compiled is not waited for."""
        self.forget()
        self._wanted.put(None)

    def _work(self) -> None:
        stream = torch.cuda.Stream(self._device)
        with torch.cuda.device(self._device), torch.cuda.stream(stream), torch.no_grad():
            while (wanted := self._wanted.get()) is not None:
                try:
                    self._do(wanted)
                except Exception as error:  # whatever it is, the eager forward goes on working
                    logger.warning("%s stays uncompiled: %s", wanted.call.shape, str(error).partition("\n")[0])
                del wanted  # it holds the module

    def _do(self, job: _Job) -> None:
        """What was forgotten meanwhile is neither begun nor handed out."""
        if job.epoch == self._epoch:
            warm(job.call, device=self._device)
        with self._while_compiling():  # nothing is loaded or unloaded by a load meanwhile
            if job.epoch == self._epoch:
                self._ready[job.key] = self._compile(job.call, pool=job.pool)

    def _compile(self, call: Call, *, pool: Any) -> Recording:
        started = time.perf_counter()
        torch.cuda.synchronize(self._device)  # the rows were made on another stream
        eager = rows.split(call.run(), among=[call])[0]
        compiled = _compiled(call)
        error = relative_error(eager, rows.split(compiled.run(), among=[call])[0])
        if not error <= tolerated_error(eager):
            raise RuntimeError(f"compiled, its output differs by {error:.1e}")
        recording = record(compiled, device=self._device, pool=pool)
        seconds = time.perf_counter() - started
        logger.info("Compiled %s rows of %s in %.0f s.", call.count, call.shape, seconds)
        return recording


def _compiled(call: Call) -> Call:
    """The same call of the compiled function; each number of rows is compiled for itself, as that is fastest."""
    callee = call.layout.callee
    function = torch.compile(callee.function, dynamic=False)
    return replace(call, layout=replace(call.layout, callee=replace(callee, function=function)))
