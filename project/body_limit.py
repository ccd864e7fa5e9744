"""A limit on request bodies in front of Django, which would otherwise spool any amount of bytes to disk."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class BodyTooLarge(Exception):
    """Raised inside the application's `receive` when a body without a declared length grows past the limit."""


class BodyLimit:
    """Answers 413 with a problem detail (RFC 9457) when a request's body is larger than `max_bytes`."""

    def __init__(self, application: Application, *, max_bytes: int) -> None:
        self.application = application
        self.max_bytes = max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, counting what it sends."""
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        if declared_length(scope) > self.max_bytes:
            return await self.refuse(send)

        received = 0
        has_started = False

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise BodyTooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.application(scope, counted_receive, watched_send)
        except BodyTooLarge:
            if not has_started:
                await self.refuse(send)

    async def refuse(self, send: Send) -> None:
        """Send the 413 and ask for the connection to be closed: the rest of the body is not read."""
        problem = {
            "type": "about:blank",
            "title": "Content Too Large",
            "status": 413,
            "code": "body_too_large",
            "detail": f"The body of a request may hold at most {self.max_bytes} bytes. Send a smaller one.",
        }
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(problem).encode()})


def declared_length(scope: MutableMapping[str, Any]) -> int:
    """The request's Content-Length in bytes, 0 where there is none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
