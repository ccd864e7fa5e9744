"""Ports for the servers that tests start."""

import itertools
import os
import socket

# Below those that the system hands out by itself, and apart for each process of a run: between the look at a port and
# its server another process could take it, and would be talked to in that server's place.
FIRST, EACH = 10_000, 7_000
_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_offsets = itertools.count(os.getpid() * 50)  # runs of other folders begin elsewhere


def free_port() -> int:
    """A port that nobody listens on, another one at each call."""
    while True:
        port = FIRST + _number % 3 * EACH + next(_offsets) % EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
