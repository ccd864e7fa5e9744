"""What is no request of ours is refused by both doors of a model server, and hurts nobody."""

import json
import socket
import struct
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from starlette.testclient import TestClient

from generation.runtimes.frames import PREFIX, Frame, Kind, read_frame
from generation.runtimes.handshake import HELLO, HELLO_FORMAT, MAGIC
from generation.runtimes.packing import pack_request
from generation.runtimes.server.app import create_app
from tests.engines.models import ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process

PATIENCE_SECONDS = 20
REQUEST = b"".join(pack_request(make_request()).buffers())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerProcess]:
    """A model server that wants no token."""
    with server_process(tmp_path_factory.mktemp("garbage"), "--engine", TIMED) as server:
        yield server


@pytest.fixture(autouse=True)
def hurts_nobody(server) -> Iterator[None]:
    """After each test both doors still serve others."""
    yield
    for link in ("http", "uds"):
        runtime = server.runtime(link)
        assert len(runtime.generate(make_request(), on_step=ignore).pixels) == 1
        runtime.close()


def say(server: ServerProcess, *data: bytes) -> bytes:
    """All that comes back over the socket until the server hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(server.socket)
        try:
            for part in data:
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already
        answer = b""
        try:
            while chunk := sock.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def error_in(answer: bytes) -> str:
    """The code of the error frame at the end of an answer, after the server's hello if it said that."""
    rest = answer.removeprefix(HELLO)

    def fill(buffer: memoryview) -> None:
        nonlocal rest
        buffer[:], rest = rest[: len(buffer)], rest[len(buffer) :]

    frame = read_frame(fill)
    assert frame.kind == Kind.ERROR
    return str(frame.header["code"])


@pytest.mark.parametrize(
    "hello", [b"GET / HTTP/1.1\r\n\r\n", bytes(8), HELLO_FORMAT.pack(MAGIC, 99)], ids=["http", "zeros", "version 99"]
)
def test_who_does_not_say_hello_is_refused(server, hello):
    assert error_in(say(server, hello)) == "bad_message"


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 16,
        PREFIX.pack(Kind.GENERATE, bytes(3), 2**32 - 1, 0),
        PREFIX.pack(Kind.GENERATE, bytes(3), 2, 2**63) + b"{}",
        PREFIX.pack(Kind.GENERATE, b"abc", 2, 0) + b"{}",
        PREFIX.pack(Kind.GENERATE, bytes(3), 3, 0) + b"[1]",
        PREFIX.pack(Kind.GENERATE, bytes(3), 2, 0) + b"\xff\xfe",
        PREFIX.pack(Kind.GENERATE, bytes(3), 2, 0) + b"{}",
        PREFIX.pack(Kind.LOAD, bytes(3), 2, 0) + b"{}",
        PREFIX.pack(Kind.RESULT, bytes(3), 2, 0) + b"{}",
    ],
    ids=["noise", "long header", "long payload", "no zeros", "a list", "no text", "no request", "no model", "server's"],
)
def test_broken_frames_are_refused(server, frame):
    assert error_in(say(server, HELLO, frame)) == "bad_message"


def test_a_frame_that_ends_early_is_forgotten(server):
    assert say(server, HELLO, REQUEST[:40]) == HELLO


def test_pictures_that_do_not_fit_their_shapes_are_refused(server):
    header = pack_request(make_request()).header | {"parts": [{"name": "image", "shape": [8, 8, 3]}]}
    frame = Frame(Kind.GENERATE, header, (bytes(5),))

    assert error_in(say(server, HELLO, b"".join(frame.buffers()))) == "bad_message"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{}", REQUEST[:30], struct.pack("!I", 7)])
@pytest.mark.parametrize("kind", ["application/json", "application/vnd.pictor.frames"])
def test_broken_bodies_are_refused(server, body, kind):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)

    connection.request("POST", "/v1/generations", body, {"Content-Type": kind})
    response = connection.getresponse()

    assert (response.status, json.loads(response.read())["code"]) == (400, "bad_message")


def test_noise_on_the_port_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as sock:
        sock.sendall(bytes(range(256)) * 10)
        answer = sock.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400")


def test_a_full_server_answers_503_and_when_to_come_again(tmp_path):
    with server_process(tmp_path, "--engine", TIMED, "--slots", "1") as full:
        busy = HTTPConnection("127.0.0.1", full.port, timeout=PATIENCE_SECONDS)
        frames = "application/vnd.pictor.frames"
        long = b"".join(pack_request(make_request(num_inference_steps=100_000)).buffers())
        busy.request("POST", "/v1/generations", long, {"Content-Type": frames, "Accept": frames})
        busy.getresponse()

        other = HTTPConnection("127.0.0.1", full.port, timeout=PATIENCE_SECONDS)
        other.request("POST", "/v1/generations", REQUEST, {"Content-Type": frames})
        response = other.getresponse()
        refused = (response.status, response.headers["Retry-After"])
        busy.close()

    assert refused == (503, "1")


def test_without_the_token_only_health_is_told():
    app = create_app(None, token="secret")  # type: ignore[arg-type]  nobody gets as far as the host
    client = TestClient(app)

    assert client.get("/v1/server").status_code == 401
    assert client.get("/v1/server", headers={"Authorization": "Bearer guess"}).status_code == 401
