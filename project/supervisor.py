"""Keeps groups of child processes running, and stops them in order on Ctrl-C."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from project.child import Child, ChildSpec, Patience, StartFailed
from project.console import Log

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAME = "pictor"

Group = dict[Child, asyncio.Task[None]]
Scenario = Callable[["Supervisor"], Awaitable[None]]


class Supervisor:
    """Children in groups: each `start` waits until its group is ready; groups stop in the opposite order."""

    def __init__(self, log: Log, *, patience: Patience | None = None) -> None:
        self.log = log
        self.patience = patience or Patience()
        self._groups: list[Group] = []
        self._is_stopping = False
        self._was_cut_short = False

    async def run(self, scenario: Scenario) -> int:
        """Run `scenario`, which starts children, until it returns or a signal ends it; then stop them.

        Returns the exit code: 0, or 130 if a second Ctrl-C cut the stop short. What `scenario` raises is
        raised here once the children have stopped.
        """
        task = asyncio.ensure_future(scenario(self))
        loop = asyncio.get_running_loop()
        heard = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
        for number in heard:
            loop.add_signal_handler(number, self._take_signal, number, task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        finally:
            self._is_stopping = True
            await self._stop()
            for number in heard:
                loop.remove_signal_handler(number)
        return 130 if self._was_cut_short else 0

    async def start(self, *specs: ChildSpec) -> None:
        """Start one group together and wait until every child is ready; raises `StartFailed`."""
        group: Group = {}
        self._groups.append(group)
        for spec in specs:
            child = Child(spec, log=self.log, patience=self.patience)
            group[child] = asyncio.ensure_future(child.run())

        done, waiting = await asyncio.wait(
            [child.ready for child in group],
            timeout=self.patience.ready_within_seconds,
            return_when=asyncio.FIRST_EXCEPTION,
        )
        for child in group:
            if child.ready in done and (error := child.ready.exception()):
                raise StartFailed(f"{error}{quote(child)}") from error
        for child in group:
            if child.ready in waiting:
                seconds = f"{self.patience.ready_within_seconds:g} s"
                raise StartFailed(f"{child.spec.name} was not ready within {seconds}.{quote(child)}")

    async def _stop(self) -> None:
        for group in reversed(self._groups):
            for child in group:
                child.stop()
            await asyncio.gather(*group.values(), return_exceptions=True)

    def _take_signal(self, number: signal.Signals, scenario: "asyncio.Future[None]") -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self.log.line(NAME, "stopping; Ctrl-C again stops at once")
            scenario.cancel()
        elif number == signal.SIGINT:  # only a person is impatient: init systems send TERM and HUP together
            self._was_cut_short = True
            for group in self._groups:
                for child in group:
                    child.kill()


def quote(child: Child) -> str:
    """The last lines that a child wrote, for the message about its failure."""
    if not child.last_lines:
        return " It wrote nothing."
    return "".join(f"\n  {line}" for line in [" Its last lines:", *child.last_lines])
