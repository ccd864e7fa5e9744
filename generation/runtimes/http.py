"""The link over HTTP: connections of the standard library, kept alive, one for each generation that is under way.

Client libraries cost several times what the transport does; docs/decisions/0011-lean-links.md has the figures.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from generation.engines.errors import EngineError
from generation.runtimes import packing
from generation.runtimes.errors import BadMessage, ServerUnavailable
from generation.runtimes.frames import Buffer, Frame, Kind, read_frame
from generation.runtimes.remote import RemoteRuntime

CONNECT_SECONDS = 5.0
QUESTION_SECONDS = 10.0
LOAD_SECONDS = 1800.0
SILENCE_SECONDS = 30.0  # a server that draws tells every five seconds that it lives
FRAMES = "application/vnd.pictor.frames"
WISHES = {Kind.CANCEL: "cancel", Kind.PREVIEW: "preview", Kind.SAVE: "save"}


class HttpRuntime(RemoteRuntime):
    """A model server at an address such as http://host:9000."""

    def __init__(self, address: str, *, token: str = "", waits_when_full: bool = True) -> None:
        super().__init__(HttpLink(address, token=token), waits_when_full=waits_when_full)


class HttpLink:
    """Idle connections to one server, taken and put back. Any thread may call any method."""

    def __init__(self, address: str, *, token: str = "") -> None:
        self.address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()

    def question(self, kind: Kind, header: dict[str, Any]) -> dict[str, Any]:
        """Ask something that is answered by JSON. Raises EngineError."""
        slug = quote(str(header.get("slug", "")), safe="")
        match kind:
            case Kind.LOAD:
                return self._exchange("POST", "/v1/models", json.dumps(header).encode(), within=LOAD_SECONDS)
            case Kind.SCHEDULERS:
                return self._exchange("GET", f"/v1/models/{slug}/schedulers")
            case Kind.UNLOAD:
                self._exchange("DELETE", f"/v1/models/{slug}")
        return self._exchange("GET", "/v1/server")

    def wish(self, generation: str, kind: Kind) -> None:
        """Cancel, preview or save; one that has ended meanwhile has nothing to give."""
        connection, response = self._ask("POST", f"/v1/generations/{generation}/{WISHES[kind]}", ())
        self._finish(connection, response)

    def start(self, frame: Frame) -> HttpCall:
        """Send a GENERATE. Raises what the server answers instead of beginning with it."""
        headers = {"Content-Type": FRAMES, "Accept": FRAMES}
        sent_at = time.perf_counter()
        connection, response = self._ask("POST", "/v1/generations", frame.buffers(), headers, within=SILENCE_SECONDS)
        if response.status != 200:
            raise error_in(response.status, self._finish(connection, response))
        return HttpCall(self, connection, response, sent_at=sent_at)

    def put_back(self, connection: HTTPConnection) -> None:
        """Keep an idle connection for the next one."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def unavailable(self, error: BaseException) -> ServerUnavailable:
        """What is raised for a failure of the connection."""
        return ServerUnavailable(f"The model server at {self.address} cannot be reached, or went away: {error!r}")

    def _exchange(self, method: str, path: str, body: bytes = b"", within: float = QUESTION_SECONDS) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body else {}
        connection, response = self._ask(method, path, (body,) if body else (), headers, within=within)
        content = self._finish(connection, response)
        if response.status >= 300:
            raise error_in(response.status, content)
        if response.status == 204:
            return {}
        return parse_json(content)

    def _finish(self, connection: HTTPConnection, response: HTTPResponse) -> bytes:
        """The rest of an answer; then the connection is idle."""
        try:
            content = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise self.unavailable(error) from error
        self.put_back(connection)
        return content

    def _ask(
        self,
        method: str,
        path: str,
        body: tuple[Buffer, ...] | list[Buffer],
        headers: dict[str, str] | None = None,
        within: float = QUESTION_SECONDS,
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Send, and read the head of the answer; once more if an idle connection proves to be closed."""
        while True:
            connection, is_fresh = self._take()
            try:
                connection.sock.settimeout(within)
                connection.putrequest(method, path)
                for name, value in (self._headers | (headers or {})).items():
                    connection.putheader(name, value)
                if body:
                    connection.putheader("Content-Length", str(sum(memoryview(part).nbytes for part in body)))
                connection.endheaders()
                for part in body:
                    connection.send(part)
                return connection, connection.getresponse()
            except (OSError, HTTPException) as error:
                connection.close()
                if is_fresh or isinstance(error, TimeoutError):
                    raise self.unavailable(error) from error

    def _take(self) -> tuple[HTTPConnection, bool]:
        """A connection, and whether it is a fresh one. Raises ServerUnavailable."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if is_quiet(connection.sock):
                    return connection, False
                connection.close()
        parts = urlsplit(self.address)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS, blocksize=1024**2)
        try:
            connection.connect()  # which sets TCP_NODELAY
        except OSError as error:
            raise self.unavailable(error) from error
        keep_alive(connection.sock)
        return connection, True


class HttpCall:
    """A generation as the chunked body of one answer."""

    def __init__(self, link: HttpLink, connection: HTTPConnection, response: HTTPResponse, *, sent_at: float) -> None:
        self.sent_at = sent_at
        self._link = link
        self._connection = connection
        self._response = response
        self._id = response.headers.get("Pictor-Generation", "")
        self._has_ended = False

    def __enter__(self) -> HttpCall:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the connection if the answer has been read to its end; else to close it cancels the generation."""
        try:
            if self._has_ended and not self._response.read():
                self._link.put_back(self._connection)
                return
        except (OSError, HTTPException):
            pass
        self._connection.close()

    def next(self) -> Frame:
        """The next frame; waits for it. Raises ServerUnavailable and BadMessage."""
        try:
            frame = read_frame(self._fill)
        except (OSError, HTTPException) as error:
            raise self._link.unavailable(error) from error
        self._has_ended = frame.kind.is_last
        return frame

    def ask(self, kind: Kind) -> None:
        """Over another connection: this one is busy with the answer."""
        self._link.wish(self._id, kind)

    def _fill(self, buffer: memoryview) -> None:
        while len(buffer):
            count = self._response.readinto(buffer)
            if not count:
                raise ConnectionResetError("It hung up.")
            buffer = buffer[count:]


def is_quiet(sock: socket.socket | None) -> bool:
    """Whether nothing came on an idle connection; what comes there is its end."""
    return sock is not None and not select.select([sock], [], [], 0)[0]


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice within half a minute that the other machine is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def parse_json(content: bytes) -> dict[str, Any]:
    """An answer's body. Raises BadMessage."""
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise BadMessage("What answers there is no model server.") from error
    if not isinstance(parsed, dict):
        raise BadMessage("What answers there is no model server.")
    return parsed


def error_in(status: int, content: bytes) -> EngineError:
    """The error that an answer stands for."""
    try:
        problem = parse_json(content)
    except BadMessage:
        problem = {}
    if status in (502, 503, 504) and "code" not in problem:
        return ServerUnavailable(f"What is in front of the model server answers {status}.")
    if "code" not in problem or status == 401:
        return BadMessage(f"The model server answers {status}: {problem.get('detail', content[:200])!r}")
    return packing.unpack_error(problem)
