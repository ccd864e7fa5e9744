"""A TCP proxy that can refuse, fall silent, dawdle, or cut what goes through it."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.ports import free_port

CHUNK = 65536


class Proxy:
    """Forwards a port of `address` to `target`, a host and port or the path of a Unix socket."""

    def __init__(self, target: tuple[str, int] | str, *, address: str = "127.0.0.1") -> None:
        self.target = target
        self.address = address
        self.port = free_port()
        self._gate = open_gate()
        self._delay_seconds = 0.0
        self._left_to_hear, self._spring = float("inf"), do_nothing
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.accept()

    def accept(self) -> None:
        """Take connections, and forward what they say."""
        self._delay_seconds = 0.0
        self._gate.set()
        if self._listener is None:
            self._listener = socket.create_server((self.address, self.port), backlog=200)
            threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
            self._listener.close()
            self._listener = None
        self.cut()

    def fall_silent(self) -> None:
        """Accept connections and forward nothing, as a network that drops every packet: nobody is told."""
        self._gate.clear()

    def dawdle(self, seconds: float = 0.4) -> None:
        """Forward each piece of what is said only after so long: each answer comes, and is late."""
        self._delay_seconds = seconds

    def abandon(self) -> None:
        """Forward for new connections again, never more for those that there are: they stay half open."""
        self._gate = open_gate()

    def cut(self) -> None:
        """Reset what is connected; new connections are as welcome as before."""
        for connected in list(self._sockets):
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self._gate.set()

    def spring_after(self, size: int, spring: Callable[[], None]) -> None:
        """Once clients have said so many bytes more, call `spring` before the next are forwarded; and never again."""
        self._left_to_hear, self._spring = size, spring

    def close(self) -> None:
        """End it."""
        self.refuse()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._forward, args=[client, self._gate], daemon=True).start()

    def _forward(self, client: socket.socket, gate: threading.Event) -> None:
        gate.wait()
        kind = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
        server = socket.socket(kind)
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            return
        self._sockets |= {client, server}
        threading.Thread(target=self._pump, args=[server, client, gate], daemon=True).start()
        self._pump(client, server, gate, hear=self._hear)

    def _hear(self, size: int) -> None:
        self._left_to_hear -= size
        if self._left_to_hear < 0:
            self._left_to_hear, spring = float("inf"), self._spring
            spring()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        gate: threading.Event,
        hear: Callable[[int], None] = lambda size: None,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                hear(len(data))
                gate.wait()
                time.sleep(self._delay_seconds)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._sockets.discard(end)


def do_nothing() -> None:
    """What happens after so many bytes unless something else should."""


def open_gate() -> threading.Event:
    """What lets everything through until it is cleared."""
    gate = threading.Event()
    gate.set()
    return gate
