"""A log that remembers its lines, and lets a test wait for one."""

import asyncio


class RecordingLog:
    """Stands in for the console."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.problems: list[tuple[str, str]] = []
        self._grew = asyncio.Event()

    def line(self, source: str, text: str) -> None:
        self.lines.append((source, text))
        self._grew.set()

    def problem(self, source: str, text: str) -> None:
        self.problems.append((source, text))
        self._grew.set()

    async def until(self, source: str, text: str, *, times: int = 1) -> None:
        """Return once `source` has written or been reported with `text` that often."""
        while (self.lines + self.problems).count((source, text)) < times:
            self._grew.clear()
            await self._grew.wait()
