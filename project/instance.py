"""The one Pictor that runs from a data folder: a lock that ends with its process and says where it is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

LOCK: Path = settings.DATA_DIR / "up.lock"


@dataclass(frozen=True)
class Instance:
    """A running Pictor."""

    process_id: int
    url: str


class AlreadyRunning(Exception):
    """Another process holds the lock."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(f"Pictor is already running at {instance.url} (process {instance.process_id}).")


@contextmanager
def claim(path: Path, *, url: str) -> Iterator[None]:
    """Be the running Pictor for the length of the block; raises `AlreadyRunning`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(read(path)) from None
        file.truncate(0)
        file.write(f"{os.getpid()} {url}\n")
        file.flush()
        yield


def find_running(path: Path) -> Instance | None:
    """The Pictor that holds the lock at this moment, if one does."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return read(path)
    return None


def read(path: Path) -> Instance:
    """What the holder of the lock wrote into it."""
    process_id, _, url = path.read_text().strip().partition(" ")
    return Instance(process_id=int(process_id or 0), url=url)
