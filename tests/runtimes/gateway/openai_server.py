"""A small server that speaks OpenAI's Images API and does as a test tells it."""

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import httpx
import uvicorn
from PIL import Image

from tests.ports import free_port

PATIENCE_SECONDS = 20


def png(colour: str = "crimson", size: tuple[int, int] = (64, 64)) -> str:
    """A picture of one colour, in Base64."""
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return b64encode(buffer.getvalue()).decode()


def picture(**options: Any) -> dict[str, Any]:
    """A whole answer."""
    return {"created": 1, "data": [{"b64_json": png(**options)}]}


def partial(**options: Any) -> dict[str, Any]:
    """An event with a partial image."""
    return {"type": "image_generation.partial_image", "b64_json": png(**options)}


def completed(**options: Any) -> dict[str, Any]:
    """The last event of a stream."""
    return {"type": "image_generation.completed", "b64_json": png(**options)}


@dataclass
class OpenAIServer:
    """`answers` are given in turn, the last one again and again: a status with a body, or the events of a stream.

    While `gate` is closed an answer does not come; `was_left` tells that a client has closed its connection meanwhile.
    """

    address: str = ""
    models: list[str] | None = None
    answers: list[tuple[int, Any] | list[dict[str, Any]]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    arrivals: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    was_left: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Answer every request with a picture, at once."""
        self.models = ["fluent-emoji-256"]
        self.answers = [(200, picture())]
        self.requests = []
        self.gate.set()
        self.arrivals = threading.Semaphore(0)
        self.was_left.clear()

    def bodies(self) -> list[dict[str, Any]]:
        """What was asked for, in JSON."""
        return [json.loads(body) for path, _, body in self.requests if path.endswith("/generations")]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application."""
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] == "GET":
            known = self.models is not None
            listed = {"data": [{"id": name} for name in self.models or ()]}
            await respond(send, 200 if known else 404, json.dumps(listed).encode())
            return
        self.requests.append((scope["path"], headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.arrivals.release()
        if isinstance(answer, list):
            await self.stream(answer, receive, send)
        elif await self.may_go_on(receive):
            status, content = answer
            await respond(send, status, content if isinstance(content, bytes) else json.dumps(content).encode())

    async def stream(self, events: list[dict[str, Any]], receive: Any, send: Any) -> None:
        """Send all events but the last, and that one when the gate opens."""
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        frames = [f"event: {event.get('type')}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        for frame in frames[:-1]:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        if await self.may_go_on(receive):
            await send({"type": "http.response.body", "body": frames[-1], "more_body": False})

    async def may_go_on(self, receive: Any) -> bool:
        """Wait for the gate or for the client to leave."""
        left = asyncio.ensure_future(receive())
        while not self.gate.is_set():
            done, _ = await asyncio.wait({left}, timeout=0.01)
            if done:
                self.was_left.set()
                return False
        left.cancel()
        return True


async def respond(send: Any, status: int, body: bytes) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """Serve for the length of the block."""
    port = free_port()
    app = OpenAIServer(address=f"http://127.0.0.1:{port}/v1")
    app.reset()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="error"))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with httpx.Client(trust_env=False, transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(f"{app.address}/models")
        yield app
    finally:
        app.gate.set()
        server.should_exit = True
        thread.join()
