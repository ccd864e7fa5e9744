"""One child process: started, its output read line by line, started again when it dies, stopped in time."""

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from project.console import Log

LONGEST_LINE_BYTES = 1024 * 1024
LINES_KEPT = 12
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None) if sys.platform == "linux" else None

ReadyCheck = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class ChildSpec:
    """What to start, and how to tell that it works.

    `watch` is called before each start; the check that it returns is asked until it says yes. Neither may
    raise. Without it a child counts as ready once it runs. Lines with one of `noise` in them are not logged.
    """

    name: str
    argv: Sequence[str]
    watch: Callable[[], Awaitable[ReadyCheck]] | None = None
    env: dict[str, str] = field(default_factory=dict)
    grace_seconds: float = 10
    folder: Path | None = None
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patience:
    """How long a child may take, and the pauses between its starts, doubled at each failure in a row."""

    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30
    steady_after_seconds: float = 60
    failed_starts: int = 2
    ready_within_seconds: float = 180
    poll_seconds: float = 0.1

    def pause_seconds(self, failures: int) -> float:
        """The pause after the nth failure in a row, counted from 1."""
        doublings = min(failures - 1, 30)  # after hours of failures the power would not fit a float
        return min(self.first_pause_seconds * 2**doublings, self.longest_pause_seconds)


class StartFailed(Exception):
    """A child died again and again, or took too long, before it was ready for the first time."""


class Child:
    """Keeps one process running from `run` until `stop`."""

    def __init__(self, spec: ChildSpec, *, log: Log, patience: Patience) -> None:
        self.spec = spec
        self.log = log
        self.patience = patience
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()
        self._is_ready = False

    async def run(self) -> None:
        """Start the process, and again whenever it ends, until `stop`; gives up if it is never ready."""
        failures = 0
        while not self._stop.is_set():
            started_at = asyncio.get_running_loop().time()
            try:
                outcome = describe(await self._run_once())
            except OSError as error:
                outcome = f"cannot be started: {error}"
            if self._stop.is_set():
                return
            seconds = asyncio.get_running_loop().time() - started_at
            is_steady = self._is_ready and seconds >= self.patience.steady_after_seconds
            failures = 1 if is_steady else failures + 1
            if not self.ready.done() and failures >= self.patience.failed_starts:
                self.ready.set_exception(StartFailed(f"{self.spec.name} {outcome}, {failures} times in a row."))
                return
            pause = self.patience.pause_seconds(failures)
            self.log.problem(self.spec.name, f"{outcome}; starting again in {pause:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    def stop(self) -> None:
        """Ask the process to end, once; `run` returns when it has, or has been killed after its grace."""
        self._stop.set()

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        self._stop.set()
        self._kill_process()

    def _kill_process(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        """Run the process to its end, whoever ends it; returns its exit status."""
        self._is_ready = False
        # The first start is timed by the supervisor, which ends it with a message; nobody waits for the later ones.
        limit = self.patience.ready_within_seconds if self.ready.done() else None
        check = await self.spec.watch() if self.spec.watch else None
        process, output = await self._spawn()
        ended = asyncio.ensure_future(self._end_of(process, output))
        stopped = asyncio.ensure_future(self._stop.wait())
        became_ready = asyncio.ensure_future(self._become_ready(check))

        first = {ended, stopped, became_ready}
        done, _ = await asyncio.wait(first, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if done:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        else:
            self.log.problem(self.spec.name, f"was not ready within {limit:g} s and is stopped")
        became_ready.cancel()
        stopped.cancel()
        if not ended.done():
            await self._terminate(process, ended)
        await asyncio.gather(became_ready, stopped, return_exceptions=True)
        return await ended

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        # The pipe is ours, not asyncio's: the end of the process is seen even if a grandchild holds the pipe.
        read_end, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                cwd=self.spec.folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | self.spec.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,  # Ctrl-C in the terminal reaches only the supervisor
                preexec_fn=die_with_parent(os.getpid()),
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        output = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(read_end, "rb", 0)
        )
        return self._process, output

    async def _end_of(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> int:
        """Copy the output until the process has ended; what it started and left behind ends with it."""
        copied = asyncio.ensure_future(self._copy(output))
        status = await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait({copied}, timeout=2)
        copied.cancel()
        return status

    async def _copy(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take(line)
        if rest:
            self._take(rest)

    def _take(self, line: bytes) -> None:
        # Of a line that redraws itself with carriage returns only the last state is kept, as on a terminal.
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        if text and not any(noise in text for noise in self.spec.noise):
            self.last_lines.append(text)
            self.log.line(self.spec.name, text)

    async def _become_ready(self, check: ReadyCheck | None) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        if check is not None:
            while not await check():
                await asyncio.sleep(self.patience.poll_seconds)
            self.log.line(self.spec.name, f"ready after {loop.time() - started_at:.1f} s")
        self._is_ready = True
        if not self.ready.done():
            self.ready.set_result(None)

    async def _terminate(self, process: asyncio.subprocess.Process, ended: "asyncio.Future[int]") -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait({ended}, timeout=self.spec.grace_seconds)
        if not ended.done():
            self.log.problem(self.spec.name, f"did not stop within {self.spec.grace_seconds:g} s and was killed")
            self._kill_process()


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with code {status}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-status, f'signal {-status}')}"


def die_with_parent(parent_id: int) -> Callable[[], None] | None:
    """What a child does before it becomes another program: ask Linux for SIGTERM when its parent dies."""
    if libc is None:
        return None

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_id:  # it died before the request took effect
            os._exit(1)

    return tie
