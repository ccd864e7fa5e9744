"""nginx in front of model servers, started as deploy/balancer has it."""

import os
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from deploy.balancer import balancer
from deploy.balancer.balancer import TEMPLATE, configuration, find_nginx
from deploy.balancer.client import Refused, draw, wishes
from tests.ports import free_port
from tests.receiver import receiving

SCRIPT = TEMPLATE.with_name("balancer.py")
may_skip = find_nginx() is None and "REQUIRE_NGINX" not in os.environ
needs_nginx = pytest.mark.skipif(may_skip, reason="nginx is not installed.")
PATIENCE_SECONDS = 20


def write(*servers: str, repeats: bool = False) -> str:
    return configuration(
        list(servers),
        listen="127.0.0.1:8080",
        at_once=3,
        repeats=repeats,
        folder=Path("/somewhere"),
        template=TEMPLATE.read_text(),
    )


@contextmanager
def balancing(*servers: str, folder: Path, at_once: int = 1):
    """A running balancer; gives a connection to it."""
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--folder", str(folder), "--at-once", str(at_once)]
    process = subprocess.Popen([sys.executable, str(SCRIPT), *options, *servers], stderr=subprocess.PIPE, text=True)
    try:
        while (folder / "nginx.pid").exists() is False:
            assert process.poll() is None, process.communicate()[1]
        yield HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    finally:
        process.terminate()
        process.wait()


def test_each_server_gets_so_many_requests_at_a_time():
    text = write("http://one:9001", "http://two:9002")

    assert "server one:9001 max_conns=3" in text
    assert "server two:9002 max_conns=3" in text
    assert "$" not in text


def test_only_who_says_so_has_requests_repeated():
    assert "non_idempotent" not in write("http://one:9001")
    assert "non_idempotent" in write("http://one:9001", repeats=True)


@needs_nginx
def test_a_picture_comes_through(tmp_path):
    with receiving() as server, balancing(server.url, folder=tmp_path) as connection:
        server.answer(200, bytes(12), Pictor_Shape="1,2,2,3", Pictor_Pipeline_Seconds="0.5")

        drawn = draw(connection, wishes("a red apple", seed=7))

        assert (drawn.shape, drawn.pixels, drawn.pipeline_seconds) == ((1, 2, 2, 3), bytes(12), 0.5)
        assert server.next().message["seed"] == 7


@needs_nginx
def test_a_server_that_is_gone_is_left_out(tmp_path):
    gone = f"http://127.0.0.1:{free_port()}"
    with receiving() as server, balancing(gone, server.url, folder=tmp_path) as connection:
        for _ in range(2):
            server.answer(200, bytes(3), Pictor_Shape="1,1,1,3", Pictor_Pipeline_Seconds="0.5")

        shapes = [draw(connection, wishes("a red apple")).shape for _ in range(2)]

    assert shapes == [(1, 1, 1, 3)] * 2


@needs_nginx
def test_where_no_server_is_left_the_request_is_refused(tmp_path):
    gone = f"http://127.0.0.1:{free_port()}"
    with balancing(gone, folder=tmp_path) as connection, pytest.raises(Refused) as raised:
        draw(connection, wishes("a red apple"))

    assert raised.value.status == 502


def test_who_has_no_nginx_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(balancer, "find_nginx", lambda: None)
    monkeypatch.setattr(sys, "argv", ["balancer.py", "http://one:9001"])

    with pytest.raises(SystemExit, match="apt-get install nginx-light"):
        balancer.main()
