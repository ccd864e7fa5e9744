"""Requests to an HTTP server that can be left at any moment, by closing their connection.

A client library blocks its thread until there is something to read. So the requests run on an event loop in a thread
of its own; the thread that asks looks into an inbox, and comes up for air when nothing has come for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpx

AIR_SECONDS = 0.1
CONNECT_SECONDS = 5.0
# Only for what a server should answer at once; how long a picture may take, its caller knows.
SHORT_SECONDS = 10.0
END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Message:
    """A whole answer, or one event of a stream; `text` is most often JSON."""

    status: int
    text: str
    is_event: bool = False


class Conversations:
    """The connections to one server. Any thread may begin any number of conversations; failures are httpx.HTTPError."""

    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"gateway {url}", daemon=True)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=30),
            trust_env=False,  # the servers of a pool are near
        )
        self._thread.start()

    def get(self, path: str) -> Message:
        """The answer to a question that takes no time."""

        async def ask() -> Message:
            response = await self._client.get(path, timeout=SHORT_SECONDS)
            return Message(response.status_code, response.text)

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def post(self, path: str, **content: Any) -> Generator[Message | None, None, None]:
        """The answer, or its events if it is a stream, and None whenever nothing has come for a while.

        To close the iterator is to close the connection. `content` is as httpx takes it: `json`, or `data` and `files`.
        """
        inbox: SimpleQueue[Message | None] = SimpleQueue()

        async def converse() -> None:
            async with self._client.stream("POST", path, **content) as response:
                async for message in messages_of(response):
                    inbox.put(message)

        future = asyncio.run_coroutine_threadsafe(converse(), self._loop)
        future.add_done_callback(lambda _: inbox.put(None))
        try:
            while not (future.done() and inbox.empty()):
                try:
                    message = inbox.get(timeout=AIR_SECONDS)
                except Empty:
                    yield None
                else:
                    if message is not None:
                        yield message
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Close all connections; what is still asked for comes to nothing."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def messages_of(response: httpx.Response) -> AsyncIterator[Message]:
    """The events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html), or the one answer."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()
        yield Message(response.status_code, response.text)
        return
    data: list[str] = []
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            text = "\n".join(data)
            data.clear()
            if text == END:
                return
            yield Message(response.status_code, text, is_event=True)
