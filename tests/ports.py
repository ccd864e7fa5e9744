"""Ports for the servers that tests start."""

import itertools
import os
import socket

# Below those that the system hands out by itself, and apart for each process: nobody takes one before its server does.
_candidates = itertools.count(10_000 + os.getpid() * 50 % 20_000)


def free_port() -> int:
    """A port that nobody listens on, another one at each call."""
    while True:
        port = next(_candidates)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
