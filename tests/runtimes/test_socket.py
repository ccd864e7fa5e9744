"""The model server's Unix socket, as somebody meets it who does not keep to docs/protocol.md."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from generation.runtimes import packing
from generation.runtimes.errors import BadMessage, ServerUnavailable
from generation.runtimes.frames import PREFIX, Frame, Kind
from generation.runtimes.handshake import HELLO, HELLO_FORMAT, MAGIC
from generation.runtimes.uds import Connection, UdsRuntime
from tests.engines.models import SHIPPED, ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process

PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerProcess]:
    """An engine that takes a given time, in a process of its own."""
    with server_process(tmp_path_factory.mktemp("socket"), "--engine", TIMED) as server:
        yield server


@pytest.fixture
def stranger(server) -> Iterator[socket.socket]:
    """A connection on which nothing has been said."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(server.socket)
        yield sock


@pytest.fixture
def connection(server) -> Iterator[Connection]:
    """A connection on which both sides have said hello."""
    connection = Connection(server.socket)
    connection.sock.settimeout(PATIENCE_SECONDS)
    yield connection
    connection.sock.close()


def heard_by(sock: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    heard = bytearray()
    with suppress(ConnectionError):
        while chunk := sock.recv(65536):
            heard += chunk
    return bytes(heard)


def frames_on(connection: Connection) -> Iterator[Frame]:
    """All that come until the server hangs up."""
    with suppress(ConnectionError):
        while True:
            yield connection.read()


def prefix(kind: int, header: int = 0, payload: int = 0, zeros: bytes = bytes(3)) -> bytes:
    """The first bytes of a frame, as anybody could write them."""
    return PREFIX.pack(kind, zeros, header, payload)


def assert_serves(server: ServerProcess) -> None:
    """Others are served as ever."""
    runtime = UdsRuntime(server.socket)
    assert len(runtime.generate(make_request(), on_step=ignore).pixels) == 1
    runtime.close()


@pytest.mark.parametrize(
    "hello",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(8), HELLO_FORMAT.pack(MAGIC, 65535), os.urandom(4096)],
    ids=["http", "zeros", "another version", "noise"],
)
def test_who_says_another_hello_is_told_and_left(server, stranger, hello):
    stranger.sendall(hello)

    heard = heard_by(stranger)

    assert not heard or b'"code":"bad_message"' in heard
    assert HELLO not in heard
    assert_serves(server)


def test_another_version_is_named(stranger):
    stranger.sendall(HELLO_FORMAT.pack(MAGIC, 7))

    assert b"version 7" in heard_by(stranger)


def test_who_hangs_up_before_the_hello_hurts_nobody(server, stranger):
    stranger.sendall(HELLO[:3])
    stranger.close()

    assert_serves(server)


@pytest.mark.parametrize(
    "garbage",
    [
        prefix(0),
        prefix(255),
        prefix(Kind.RESULT) + b"{}",
        prefix(Kind.DESCRIBE, header=2**32 - 1),
        prefix(Kind.GENERATE, payload=2**64 - 1),
        prefix(Kind.DESCRIBE, header=2, zeros=b"abc") + b"{}",
        prefix(Kind.DESCRIBE, header=4) + b"\xff\xfe{}",
        prefix(Kind.DESCRIBE, header=2) + b"[]",
        prefix(Kind.DESCRIBE, header=100_000) + 100_000 * b"[",
        prefix(Kind.LOAD, header=2) + b"{}",
        prefix(Kind.UNLOAD, header=10) + b'{"slug":1}',
        prefix(Kind.GENERATE, header=2) + b"{}",
        os.urandom(100_000),
    ],
    ids=[
        "no kind", "unknown kind", "a server's kind", "huge header", "huge payload", "no zeros", "no utf-8",
        "no object", "deep json", "no model", "no slug", "no request", "noise",
    ],
)  # fmt: skip
def test_garbage_is_refused_and_hurts_nobody(server, connection, garbage):
    with suppress(ConnectionError):  # it may have hung up before all of it was sent
        connection.sock.sendall(garbage)

    heard = heard_by(connection.sock)

    assert not heard or b'"code":"bad_message"' in heard
    assert_serves(server)


@pytest.mark.parametrize(
    "change",
    [
        {"width": "64"},
        {"width": True},
        {"seed": 1.5},
        {"model": None},
        {"model": {"slug": "x"}},
        {"parts": 3},
        {"parts": [{"name": "image", "shape": [64, 64, 3]}]},
        {"parts": [{"name": "image", "shape": [2**62, 2**62, 3]}]},
        {"parts": [{"name": "image", "shape": [-1, 64, 3]}]},
        {"parts": [{"name": "sound", "shape": [1]}]},
        {"resume_from": {"step": 1, "total": 2}},
        {"resume_from": 5},
    ],
    ids=str,
)
def test_requests_that_make_no_sense_are_refused_by_name(connection, change):
    frame = packing.pack_request(make_request())

    connection.send(Frame(frame.kind, frame.header | change))
    answer = connection.read()

    assert answer.kind == Kind.ERROR and answer.header["code"] == BadMessage.code


def test_a_payload_without_parts_is_refused(connection):
    frame = packing.pack_request(make_request())

    connection.send(Frame(frame.kind, frame.header, (b"more",)))

    assert connection.read().header["code"] == BadMessage.code


def test_what_is_asked_while_a_generation_runs_ends_it(server, connection):
    connection.send(packing.pack_request(make_request(num_inference_steps=100_000)))
    assert connection.read().kind == Kind.PROGRESS

    connection.send(Frame(Kind.DESCRIBE))

    assert Kind.RESULT not in {frame.kind for frame in frames_on(connection)}
    assert_serves(server)


def test_who_says_what_is_out_of_turn_is_told_so(connection):
    connection.send(packing.pack_request(make_request(num_inference_steps=100_000)))
    assert connection.read().kind == Kind.PROGRESS

    connection.send(Frame(Kind.DESCRIBE))

    *_, last = frames_on(connection)
    assert last.kind == Kind.ERROR and last.header["code"] == BadMessage.code


def test_a_wish_that_comes_in_pieces_around_the_end_of_a_generation_is_read_whole(connection):
    connection.send(packing.pack_request(make_request(num_inference_steps=20)))
    assert connection.read().kind == Kind.PROGRESS
    connection.sock.sendall(prefix(Kind.CANCEL, header=2))
    while not connection.read().kind.is_last:
        pass

    connection.sock.sendall(b"{}")
    connection.send(Frame(Kind.DESCRIBE))

    assert connection.read().kind == Kind.ANSWER


def test_wishes_after_the_end_are_taken_and_come_to_nothing(connection):
    for kind in (Kind.CANCEL, Kind.PREVIEW, Kind.SAVE):
        connection.send(Frame(kind))
    connection.send(Frame(Kind.DESCRIBE))

    assert connection.read().kind == Kind.ANSWER


def test_who_hangs_up_in_the_middle_of_a_frame_hurts_nobody(server, connection):
    connection.sock.sendall(prefix(Kind.GENERATE, header=100, payload=100) + b"{")
    connection.sock.close()

    assert_serves(server)


def test_a_server_of_another_version_is_refused_by_the_client(tmp_path):
    path = str(tmp_path / "old.sock")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(path)
        listener.listen()
        described = pool.submit(UdsRuntime(path).describe)
        old, _ = listener.accept()
        with old:
            old.sendall(HELLO_FORMAT.pack(MAGIC, 65535))
            error = described.exception(timeout=PATIENCE_SECONDS)

    assert isinstance(error, BadMessage) and "version 65535" in str(error)


def test_a_socket_that_nobody_listens_at_is_unavailable(tmp_path):
    with pytest.raises(ServerUnavailable):
        UdsRuntime(str(tmp_path / "none.sock")).load(SHIPPED)
