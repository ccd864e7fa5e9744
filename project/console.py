"""Where the lines of several processes meet: whole, each with its source in front, above one redrawn line."""

import io
import os
import shutil
import threading
from datetime import datetime
from pathlib import Path
from typing import Protocol, TextIO

COLOURS = ("36", "32", "35", "34", "33", "96", "92", "95")
PROBLEM_COLOUR = "31"
SOURCE_WIDTH = 11


class Log(Protocol):
    """What a supervisor needs of a log."""

    def line(self, source: str, text: str) -> None:
        """Take one line of `source`."""

    def problem(self, source: str, text: str) -> None:
        """Take one line of `source` that somebody should see."""


class Console:
    """A terminal or a plain stream. Lines for a stream that is gone (a closed terminal) are dropped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks must not cost the line
        self.is_terminal = stream.isatty()
        self.has_colours = self.is_terminal and "NO_COLOR" not in os.environ
        self._colours: dict[str, str] = {}
        self._status = ""
        self._lock = threading.Lock()

    def line(self, source: str, text: str) -> None:
        """Write `source | text`; each source keeps its own colour on a terminal."""
        colour = self._colours.setdefault(source, COLOURS[len(self._colours) % len(COLOURS)])
        self.say(f"{self._painted(f'{source:<{SOURCE_WIDTH}} |', colour)} {text}")

    def problem(self, source: str, text: str) -> None:
        """Write `source | text` so that it stands out."""
        self.say(self._painted(f"{source:<{SOURCE_WIDTH}} | {text}", PROBLEM_COLOUR))

    def say(self, text: str = "") -> None:
        """Write `text` and a line break above the status line."""
        with self._lock:
            erase = "\r\x1b[2K" if self._status else ""
            self._write(f"{erase}{text}\n{self._status}")

    def show_status(self, text: str) -> None:
        """Redraw the line at the bottom; "" removes it. Only a terminal has one."""
        if not self.is_terminal:
            return
        columns = shutil.get_terminal_size().columns
        with self._lock:
            self._status = text[: columns - 1]
            self._write(f"\r\x1b[2K{self._status}")

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.has_colours else text

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            pass


class LogFile:
    """A log in a file, for lines that nobody reads unless something fails; problems are shown as well."""

    def __init__(self, path: Path, *, console: Console) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.console = console
        self._file = path.open("w", encoding="utf-8", buffering=1)

    def line(self, source: str, text: str) -> None:
        """Write the line with the time of day."""
        self._file.write(f"{datetime.now():%H:%M:%S} {source:<{SOURCE_WIDTH}} | {text}\n")

    def problem(self, source: str, text: str) -> None:
        """Write the line, and show it."""
        self.line(source, text)
        self.console.problem(source, text)
