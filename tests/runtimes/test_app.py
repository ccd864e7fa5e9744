"""The model server's HTTP, as a client meets it that is not Pictor's own: no frames, plain JSON, pixels."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

import numpy as np
import pytest

from generation.engines.types import Progress
from generation.runtimes import packing
from generation.runtimes.base import Runtime
from generation.runtimes.errors import BadMessage, ServerBusy, ServerUnavailable
from generation.runtimes.frames import Frame, Kind
from generation.runtimes.http import FRAMES, HttpRuntime
from tests.engines.models import ignore, make_request
from tests.runtimes.serving import TIMED, ServerProcess, server_process

PATIENCE_SECONDS = 30
TOKEN = "a token for tests"
GUARDED = {"Authorization": f"Bearer {TOKEN}"}
LONG = 100_000


class Enough(Exception):
    """What an on_step raises here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ServerProcess]:
    """One slot, and a token."""
    folder = tmp_path_factory.mktemp("app")
    with server_process(folder, "--engine", TIMED, "--slots", "1", PICTOR_RUNTIME_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture
def runtime(server) -> Iterator[Runtime]:
    """One that does not wait for a slot, as a gateway's."""
    runtime = HttpRuntime(server.url, token=TOKEN, waits_when_full=False)
    yield runtime
    runtime.close()


def ask(
    server: ServerProcess, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request(method, path, body, GUARDED if headers is None else headers)
    response = connection.getresponse()
    answer = (response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return answer


@contextmanager
def one_answer(content: bytes) -> Iterator[str]:
    """A server that says the same to everybody, whatever they ask; gives its address."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(content)

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"


def generation_json(**changes: Any) -> bytes:
    """A request as JSON."""
    return json.dumps(packing.pack_request(make_request(**changes)).header).encode()


def wait_until_free(runtime: Runtime) -> None:
    """Until the server takes a generation again; pytest's own limit ends it."""
    while True:
        try:
            runtime.generate(make_request(), on_step=ignore)
            return
        except ServerBusy:
            time.sleep(0.02)


def test_pixels_come_raw_to_who_asks_with_plain_json(server):
    status, headers, body = ask(server, "POST", "/v1/generations", generation_json(width=128, num_images=2))

    assert status == 200 and headers["content-type"] == "application/octet-stream"
    shape = tuple(int(length) for length in headers["pictor-shape"].split(","))
    assert np.frombuffer(body, np.uint8).reshape(shape).shape == (2, 64, 128, 3)


def test_who_hangs_up_without_having_seen_a_frame_cancels(server, runtime):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/v1/generations", generation_json(num_inference_steps=LONG), GUARDED)
    while b"pictor_in_flight 1.0" not in ask(server, "GET", "/metrics")[2]:
        time.sleep(0.01)

    connection.close()

    wait_until_free(runtime)


def test_who_hangs_up_in_the_middle_of_a_stream_cancels(server, runtime):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    headers = GUARDED | {"Accept": FRAMES}
    connection.request("POST", "/v1/generations", generation_json(num_inference_steps=LONG), headers)
    assert connection.getresponse().read(16)

    connection.close()

    wait_until_free(runtime)


def test_a_full_server_answers_503_and_when_to_come_again(server, runtime):
    entered, leave = threading.Event(), threading.Event()

    def hold(progress: Progress) -> None:
        entered.set()
        if leave.is_set():
            raise Enough

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(runtime.generate, make_request(num_inference_steps=LONG), on_step=hold)
        assert entered.wait(PATIENCE_SECONDS)
        status, headers, body = ask(server, "POST", "/v1/generations", generation_json())
        with pytest.raises(ServerBusy) as caught:
            runtime.generate(make_request(), on_step=ignore)
        leave.set()

    assert status == 503 and int(headers["retry-after"]) >= 1
    assert json.loads(body)["code"] == "server_busy"
    assert caught.value.retry_after_seconds > 0
    assert isinstance(holder.exception(), Enough)


def test_without_the_token_only_the_health_is_told(server):
    assert ask(server, "GET", "/health", headers={})[0] == 200
    for headers in ({}, {"Authorization": "Bearer another"}):
        assert ask(server, "GET", "/v1/server", headers=headers)[0] == 401
    with pytest.raises(BadMessage, match="token"):
        HttpRuntime(server.url).describe()


def metrics_of(server: ServerProcess) -> dict[str, float]:
    """What the server counts, by name and labels."""
    lines = ask(server, "GET", "/metrics")[2].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_count_what_was_drawn_stopped_and_refused(tmp_path):
    with server_process(tmp_path, "--engine", TIMED, "--slots", "1", PICTOR_RUNTIME_TOKEN=TOKEN) as server:
        runtime = HttpRuntime(server.url, token=TOKEN, waits_when_full=False)

        def be_refused_and_leave(progress: Progress) -> None:
            with pytest.raises(ServerBusy):
                runtime.generate(make_request(), on_step=ignore)
            assert metrics_of(server)["pictor_in_flight"] == 1
            raise Enough

        runtime.generate(make_request(num_images=2), on_step=ignore)
        with pytest.raises(Enough):
            runtime.generate(make_request(num_inference_steps=LONG), on_step=be_refused_and_leave)
        counted = metrics_of(server)
        runtime.close()

    assert counted['pictor_generations_total{outcome="drawn"}'] == 1
    assert counted['pictor_generations_total{outcome="stopped"}'] == 1
    assert (counted["pictor_images_total"], counted["pictor_refused_total"]) == (2, 1)
    assert (counted["pictor_pipeline_seconds_count"], counted["pictor_in_flight"]) == (1, 0)
    assert (counted["pictor_slots"], counted["pictor_models_loaded"]) == (1, 1)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"no json", {}),
        (b"[]", {}),
        (b"{}", {}),
        (100_000 * b"[", {}),
        (b"no frame", {"Content-Type": FRAMES}),
        (b"".join(Frame(Kind.DESCRIBE).buffers()), {"Content-Type": FRAMES}),
        (b"".join(packing.pack_request(make_request()).buffers())[:-1], {"Content-Type": FRAMES}),
        (b"".join(packing.pack_request(make_request()).buffers()) + b"more", {"Content-Type": FRAMES}),
    ],
    ids=["empty", "no json", "a list", "no members", "deep json", "no frame", "another kind", "too short", "too long"],
)
def test_what_is_no_request_is_a_problem_detail(server, body, headers):
    status, answered, content = ask(server, "POST", "/v1/generations", body, GUARDED | headers)

    assert status == 400 and answered["content-type"] == "application/problem+json"
    assert json.loads(content)["code"] == "bad_message"


def test_bodies_beyond_all_measure_are_refused(server):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    connection.putrequest("POST", "/v1/generations")
    for name, value in (GUARDED | {"Content-Length": str(2**40)}).items():
        connection.putheader(name, value)
    connection.endheaders()

    status = connection.getresponse().status
    connection.close()

    assert status == 400


def test_a_wish_for_what_does_not_run_is_not_found(server):
    assert ask(server, "POST", "/v1/generations/none/cancel")[0] == 404


def test_a_model_that_is_not_there_is_not_found(server):
    status, _, body = ask(server, "GET", "/v1/models/none/schedulers")

    assert status == 404 and json.loads(body)["code"] == "model_unavailable"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", BadMessage),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", BadMessage),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ServerUnavailable),
        (b"no HTTP at all\r\n\r\n", ServerUnavailable),
    ],
    ids=["text", "other json", "a proxy", "no http"],
)
def test_what_is_no_model_server_is_told_apart(answer, error):
    with one_answer(answer) as url, pytest.raises(error):
        HttpRuntime(url).describe()
