"""Who may connect to a model server's Unix socket, and who may listen where."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from generation.runtimes.errors import BadMessage
from generation.runtimes.server.sockets import check_peer, make_way
from generation.runtimes.uds import UdsRuntime
from tests.engines.models import ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process

PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerProcess]:
    """An engine that takes a given time, in a process of its own."""
    with server_process(tmp_path_factory.mktemp("doors"), "--engine", TIMED) as server:
        yield server


def heard_as(user: int, path: str) -> str:
    """What a process of that user is told who asks what the device is."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(user)
            os.write(writing, described(path).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as pipe:
        return pipe.read()


def described(path: str) -> str:
    """The kind of the device, or why that is not told."""
    try:
        return UdsRuntime(path).describe().kind
    except BadMessage as error:
        return str(error)


def assert_serves(server: ServerProcess) -> None:
    """Others are served as ever."""
    runtime = UdsRuntime(server.socket)
    assert len(runtime.generate(make_request(), on_step=ignore).pixels) == 1
    runtime.close()


def test_only_its_own_user_may_connect_unless_others_are_named(server):
    assert os.stat(server.socket).st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can be somebody else.")
def test_the_kernel_tells_who_connects_and_others_are_told_to_leave():
    allowed, foreign = 12345, 54321
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with server_process(Path(folder), "--engine", TIMED, "--allow-uid", str(allowed)) as server:
            welcomed, refused = heard_as(allowed, server.socket), heard_as(foreign, server.socket)
            assert_serves(server)

    assert "cpu" in welcomed
    assert f"user {foreign} may not connect" in refused


def test_a_socket_at_which_another_server_listens_is_left_to_it(server):
    command = [sys.executable, "-m", "generation.runtimes.server", "--uds", server.socket, "--engine", TIMED]

    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    assert second.returncode != 0 and "Another server listens" in second.stderr
    assert_serves(server)


def test_a_file_that_is_no_socket_is_not_replaced_by_one(tmp_path):
    place = tmp_path / "precious"
    place.write_text("not a socket")

    with pytest.raises(FileExistsError, match="no socket"):
        make_way(place)

    assert place.read_text() == "not a socket"


def test_a_socket_that_a_killed_server_has_left_is_replaced(tmp_path):
    with server_process(tmp_path, "--engine", TIMED) as server:
        server.kill()
        server.start()

        assert_serves(server)


def test_a_process_of_a_user_who_is_not_allowed_is_told_to_leave():
    ours, theirs = socket.socketpair(socket.AF_UNIX)

    with ours, theirs:
        check_peer(ours, allowed={os.getuid()})
        with pytest.raises(BadMessage, match=f"user {os.getuid()} may not connect"):
            check_peer(ours, allowed={os.getuid() + 1})
