"""The link over a Unix socket: frames after a handshake, one connection for each generation that is under way."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Any

from generation.runtimes import packing
from generation.runtimes.errors import BadMessage, ServerUnavailable
from generation.runtimes.frames import Frame, Kind, read_frame
from generation.runtimes.handshake import HELLO, check_hello
from generation.runtimes.http import LOAD_SECONDS, QUESTION_SECONDS, SILENCE_SECONDS, is_quiet
from generation.runtimes.remote import RemoteRuntime


class UdsRuntime(RemoteRuntime):
    """A model server on this machine, at the path of its socket."""

    def __init__(self, address: str, *, waits_when_full: bool = True) -> None:
        super().__init__(UdsLink(address), waits_when_full=waits_when_full)


class Connection:
    """A socket on which both sides have said hello."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and BadMessage for a server of another version, or that does not want us."""
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(QUESTION_SECONDS)
            self.sock.connect(path)
            self.sock.sendall(HELLO)
            answer = bytearray(len(HELLO))
            self.fill(memoryview(answer))
            if answer[0] == Kind.ERROR:
                raise packing.unpack_error(self.read(begun=answer).header)
            check_hello(answer)
        except BaseException:
            self.sock.close()
            raise

    def send(self, frame: Frame) -> None:
        """Send a frame without putting its parts together first."""
        for part in frame.buffers():
            self.sock.sendall(part)

    def read(self, *, begun: bytearray | None = None) -> Frame:
        """The next frame, of which the first bytes may have been read already."""
        return read_frame(self.fill, begun=begun)

    def fill(self, buffer: memoryview) -> None:
        """Read until all of the buffer is filled."""
        while len(buffer):
            count = self.sock.recv_into(buffer)
            if not count:
                raise ConnectionResetError("It hung up.")
            buffer = buffer[count:]


class UdsLink:
    """Idle connections to one server, taken and put back. Any thread may call any method."""

    def __init__(self, path: str) -> None:
        self.address = path
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def question(self, kind: Kind, header: dict[str, Any]) -> dict[str, Any]:
        """Ask something that is answered by JSON. Raises EngineError."""
        connection, answer = self._ask(Frame(kind, header), within=LOAD_SECONDS if kind == Kind.LOAD else None)
        self.put_back(connection)
        if answer.kind == Kind.ERROR:
            raise packing.unpack_error(answer.header)
        return answer.header

    def start(self, frame: Frame) -> UdsCall:
        """Send a GENERATE. Raises what the server answers instead of beginning with it."""
        sent_at = time.perf_counter()
        connection, first = self._ask(frame, within=SILENCE_SECONDS)
        if first.kind == Kind.ERROR:
            self.put_back(connection)
            raise packing.unpack_error(first.header)
        return UdsCall(self, connection, first, sent_at=sent_at)

    def put_back(self, connection: Connection) -> None:
        """Keep an idle connection for the next one."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.sock.close()

    def unavailable(self, error: BaseException) -> ServerUnavailable:
        """What is raised for a failure of the connection."""
        return ServerUnavailable(f"The model server at {self.address} cannot be reached, or went away: {error!r}")

    def _ask(self, frame: Frame, *, within: float | None) -> tuple[Connection, Frame]:
        """Send, and read the first frame of the answer; once more if an idle connection proves to be closed."""
        while True:
            connection, is_fresh = self._take()
            try:
                connection.sock.settimeout(within or QUESTION_SECONDS)
                connection.send(frame)
                return connection, connection.read()
            except BadMessage:
                connection.sock.close()
                raise
            except OSError as error:
                connection.sock.close()
                if is_fresh or isinstance(error, TimeoutError):
                    raise self.unavailable(error) from error

    def _take(self) -> tuple[Connection, bool]:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if is_quiet(connection.sock):
                    return connection, False
                connection.sock.close()
        try:
            return Connection(self.address), True
        except OSError as error:
            raise self.unavailable(error) from error


class UdsCall:
    """A generation on a connection of its own."""

    def __init__(self, link: UdsLink, connection: Connection, first: Frame, *, sent_at: float) -> None:
        self.sent_at = sent_at
        self._link = link
        self._connection = connection
        self._first: Frame | None = first
        self._has_ended = False

    def __enter__(self) -> UdsCall:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the connection after the last frame; else to close it cancels the generation."""
        if self._has_ended:
            self._link.put_back(self._connection)
        else:
            self._connection.sock.close()

    def next(self) -> Frame:
        """The next frame; waits for it. Raises ServerUnavailable and BadMessage."""
        frame, self._first = self._first, None
        if frame is None:
            try:
                frame = self._connection.read()
            except OSError as error:
                raise self._link.unavailable(error) from error
        self._has_ended = frame.kind.is_last
        return frame

    def ask(self, kind: Kind) -> None:
        """Over the same connection."""
        try:
            self._connection.send(Frame(kind))
        except OSError as error:
            raise self._link.unavailable(error) from error
