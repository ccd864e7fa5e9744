"""The client that `up` and `picture` use, against a service that says what the test tells it to."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from generation.lifecycle import Status
from project.client import Client, PictureFailed
from project.console import Console

PATH = "/api/generations/7/"
IMAGE = b"the bytes of an image"


class ScriptedService(ThreadingHTTPServer):
    """Answers each request for the generation with the next of `states`, the last one again and again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.states: list[dict[str, Any]] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.requests: list[str] = []
        self.asked = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: ScriptedService

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.requests.append(f"POST {self.path} {body.decode()} {self.headers['Authorization']}")
        if self.server.refusal:
            self.answer(*self.server.refusal)
        else:
            self.answer(202, state(Status.QUEUED, position=2))

    def do_GET(self) -> None:
        self.server.asked.set()
        if self.path == f"{PATH}images/0/":
            self.answer(200, IMAGE)
        else:
            states = self.server.states
            self.answer(200, states.pop(0) if len(states) > 1 else states[0])

    def answer(self, status: int, body: dict[str, Any] | bytes) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def state(status: Status, *, step: int = 0, position: int | None = None, **members: Any) -> dict[str, Any]:
    public = "https://pictor.example.org"  # links carry the name by which the outside knows the service
    return {
        "status": status,
        "prompt": "A red apple!",
        "seed": 42,
        "format": "png",
        "progress": {"step": step, "total": 20, "fraction": step / 20},
        "position": position,
        "error": None,
        "images": [{"index": 0, "url": f"{public}{PATH}images/0/"}],
        "links": {"self": f"{public}{PATH}", "cancel": f"{public}{PATH}cancel/"},
    } | members


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    server = ScriptedService()
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def polling_is_quick(monkeypatch):
    monkeypatch.setattr("project.client.POLL_SECONDS", 0.01)


def make_picture(service: ScriptedService, folder: Any) -> tuple[Any, str]:
    output = io.StringIO()
    client = Client(url=service.url, api_key="pictor_key")
    path = asyncio.run(client.make_picture("A red apple!", folder=folder, console=Console(output)))
    return path, output.getvalue()


def test_the_picture_is_stored_under_a_name_that_tells_what_it_shows(service, tmp_path):
    service.states = [state(Status.RUNNING, step=3), state(Status.SUCCEEDED, step=20)]

    path, _ = make_picture(service, tmp_path / "pictures")

    assert path == tmp_path / "pictures" / "a-red-apple-42.png"
    assert path.read_bytes() == IMAGE
    assert service.requests == ['POST /api/generations/ {"prompt":"A red apple!"} Bearer pictor_key']


def test_progress_without_a_terminal_is_a_few_lines(service, tmp_path):
    service.states = [state(Status.RUNNING, step=step) for step in range(1, 20)] + [state(Status.SUCCEEDED)]

    _, output = make_picture(service, tmp_path)

    lines = [line.rpartition("  ")[0] for line in output.splitlines()]
    assert lines == [
        "A red apple!  waiting, number 2 in the queue",
        "A red apple!  [#...................] 1/20 steps",
        "A red apple!  [#####...............] 5/20 steps",
        "A red apple!  [##########..........] 10/20 steps",
        "A red apple!  [###############.....] 15/20 steps",
    ]


def test_a_failed_generation_says_why(service, tmp_path):
    error = {"code": "out_of_memory", "detail": "The GPU has too little memory."}
    service.states = [state(Status.FAILED, error=error)]

    with pytest.raises(PictureFailed, match=r"The GPU has too little memory. \(out_of_memory\)"):
        make_picture(service, tmp_path)


def test_a_refusal_is_told_in_the_words_of_its_problem_detail(service, tmp_path):
    service.refusal = (400, {"title": "Bad Request", "detail": "prompt: This field may not be blank."})

    with pytest.raises(PictureFailed, match=r"^prompt: This field may not be blank\.$"):
        make_picture(service, tmp_path)


def test_an_answer_that_is_no_problem_detail_is_told_by_its_status(service, tmp_path):
    service.refusal = (502, b"<html>")

    with pytest.raises(PictureFailed, match="The service answered 502 Bad Gateway"):
        make_picture(service, tmp_path)


def test_a_service_that_is_not_there_is_told_in_a_sentence(service, tmp_path):
    service.server_close()

    with pytest.raises(PictureFailed, match=f"The service at {service.url}.* does not answer"):
        make_picture(service, tmp_path)


def test_who_stops_waiting_cancels_the_generation(service, tmp_path):
    service.states = [state(Status.RUNNING, step=1)]
    client = Client(url=service.url, api_key="pictor_key")

    async def stop_waiting() -> None:
        making = asyncio.ensure_future(
            client.make_picture("A red apple!", folder=tmp_path, console=Console(io.StringIO()))
        )
        await asyncio.to_thread(service.asked.wait)
        making.cancel()
        await asyncio.wait([making])

    asyncio.run(stop_waiting())

    assert service.requests[-1] == f"POST {PATH}cancel/  Bearer pictor_key"
