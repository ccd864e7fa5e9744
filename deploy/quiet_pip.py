"""pip, run with one line that says what it is doing, and its last words when it fails."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

NETWORK_SIGNS = ("ConnectionError", "connection broken", "TimeoutError", "name resolution", "unreachable")
BIG = re.compile(r"\(\d{2,}(\.\d+)? MB\)|GB\)")
LAST_WORDS = 8


class InstallError(Exception):
    """Something that the user has to put right; the message says how."""


class Progress:
    """The line at the bottom of the terminal; where there is none, a line for each thing that takes long."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._text = ""
        self._since = time.monotonic()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Progress":
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()

    def show(self, text: str) -> None:
        """From now on, `text` is being done."""
        self._text, self._since = text, time.monotonic()
        if not self.is_terminal and (BIG.search(text) or text.startswith("unpacking")):
            say(text)

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._text = ""
        self._redraw("")
        say(text)

    def _tick(self) -> None:
        while not self._ended.wait(0.2):
            if self._text:
                self._redraw(f"  {self._text}  {time.monotonic() - self._since:.0f} s")
        self._redraw("")

    def _redraw(self, line: str) -> None:
        if self.is_terminal:
            sys.stdout.write("\r\x1b[2K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stdout.flush()


def say(text: str) -> None:
    """Write a line of ours."""
    sys.stdout.write(f"pictor: {text}\n")
    sys.stdout.flush()


def run_pip(python: Path, arguments: list[str], *, log: Path, progress: Progress) -> None:
    """Run the pip of `python`; all that it says goes to `log`. Raises `InstallError` with its last words."""
    lines = []
    with start_pip(python, arguments) as process, log.open("a", encoding="utf-8") as file:
        for line in process.stdout or ():
            file.write(line)
            if "is neither a file nor a directory" in line:
                continue  # said of each package that a folder configured as an index lacks
            lines.append(line)
            if text := in_short(line):
                progress.show(text)
    if process.returncode:
        raise InstallError(f"{advice(lines)} All that pip said is in {log}.\n\n{last_words(lines)}")


def start_pip(python: Path, arguments: list[str]) -> "subprocess.Popen[str]":
    """Start the pip of `python` with all that it says on one stream."""
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    return subprocess.Popen(
        [str(python), "-m", "pip", *arguments, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PIP_USER": "0"},  # a user-wide `user = true` would be refused in an environment
    )


def in_short(line: str) -> str | None:
    """What a line of pip's means for somebody who waits; None if nothing."""
    if match := re.match(r"\s*Downloading (?:\S*/)?([^-\s]+)-([^-\s]+)-\S+\.whl \((.+)\)", line):
        return f"downloading {match[1]} {match[2].replace('%2B', '+')} ({match[3]})"
    if match := re.match(r"Collecting ([\w.-]+)", line):
        return f"looking at {match[1]}"
    if line.startswith("Installing collected packages") and "," in line:
        return f"unpacking {line.count(',') + 1} packages"
    return None


def advice(lines: list[str]) -> str:
    """What to do about a failure of pip's."""
    text = "".join(lines)
    if any(sign in text for sign in NETWORK_SIGNS):
        return "pip cannot reach the package index. Check the network (a proxy? HTTPS_PROXY), then try again."
    if "No space left" in text:
        return "The disk is full. Make room (PyTorch needs 2 GB, with CUDA 8 GB), then try again."
    if "No matching distribution" in text:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"A package does not exist for Python {version} on this machine. Try make run PYTHON=python3.11."
    return "pip failed. Correct what it says, then try again."


def last_words(lines: list[str]) -> str:
    """The end of what pip said."""
    return "".join(f"  {line}" for line in lines[-LAST_WORDS:])
