"""A RabbitMQ of the tests' own that can be killed, lose everything, and come back."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from kombu import Connection
from kombu.exceptions import OperationalError

from tests.ports import free_port

# Debian's own `rabbitmq-server` becomes another user, who could not write into the folder.
PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
PATIENCE_SECONDS = 60
POLL_SECONDS = 0.1


def why_not() -> str:
    """Why there can be none here; empty if there can."""
    return "" if program() else "There is no rabbitmq-server on this machine."


def program() -> str | None:
    """The script that starts one."""
    return next(filter(None, map(shutil.which, PLACES)), None)


class RabbitMQServer:
    """One node, beside any other on this machine, that keeps quorum queues in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.environment = os.environ | {
            "HOME": str(folder),  # of the cookie
            "RABBITMQ_NODENAME": f"pictor-tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "none"),
        }
        self.start()

    def start(self) -> None:
        """Start it with what its folder holds, and wait until it answers."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [str(program())], env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "output").read_text()
            time.sleep(POLL_SECONDS)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
        except (OSError, OperationalError):
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, to all that belongs to it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def forget(self) -> None:
        """Remove what it has kept; for one that is dead."""
        shutil.rmtree(self.folder / "data")

    def close(self) -> None:
        """End it."""
        self.kill()
