"""The web service on a real uvicorn, in a thread of the test's process, and a client that reads its streams."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from project.asgi import application
from tests.ports import free_port

PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class SentEvent:
    """One event as it came over the wire; its data is parsed."""

    id: str
    kind: str
    data: dict[str, Any]


@contextmanager
def serving() -> Iterator[str]:
    """Serve for the length of the block; gives the address."""
    port = free_port()
    config = uvicorn.Config(application, port=port, lifespan="off", log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=address, trust_env=False, transport=httpx.HTTPTransport(retries=20)) as client:
            client.get("/health/live").raise_for_status()
        yield address
    finally:
        server.should_exit = True
        thread.join()


class Stream:
    """An open stream; `next()` waits for the next event, and `rest()` for all until the server ends it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments: list[str] = []
        self._lines = response.iter_lines()

    def next(self) -> SentEvent | None:
        """The next event, None at the end."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(value)
            elif line:
                fields[name] = value
            elif "data" in fields:
                return SentEvent(fields["id"], fields["event"], json.loads(fields["data"]))
        return None

    def until(self, kind: str) -> SentEvent:
        """The next event of that kind; skips others."""
        while event := self.next():
            if event.kind == kind:
                return event
        raise AssertionError(f"The stream ended without {kind}.")

    def rest(self) -> list[SentEvent]:
        """All events up to the end."""
        return list(iter(self.next, None))


@contextmanager
def opened(address: str, path: str, *, last_event_id: str | None = None, **headers: str) -> Iterator[Stream]:
    """Open a stream for the length of the block."""
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    with (
        httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE_SECONDS) as client,
        client.stream("GET", path, headers=headers) as response,
    ):
        yield Stream(response)
