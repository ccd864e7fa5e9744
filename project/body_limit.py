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
    """Answers 413 with a problem detail (RFC 9457) when a request's body is larger than `max_bytes`.

    One with files (`multipart/form-data`) may have `max_upload_bytes`.
    """

    def __init__(self, application: Application, *, max_bytes: int, max_upload_bytes: int) -> None:
        self.application = application
        self.max_bytes = max_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass the request on, counting what it sends."""
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        most = self.max_upload_bytes if has_files(scope) else self.max_bytes
        if declared_length(scope) > most:
            return await refuse(send, most=most)

        received = 0
        has_started = False

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
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
                await refuse(send, most=most)


async def refuse(send: Send, *, most: int) -> None:
    """Send the 413 and ask for the connection to be closed: the rest of the body is not read."""
    problem = {
        "type": "about:blank",
        "title": "Content Too Large",
        "status": 413,
        "code": "body_too_large",
        "detail": f"The body of this request may hold at most {most} bytes. Send a smaller one.",
    }
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})


def has_files(scope: MutableMapping[str, Any]) -> bool:
    """Whether the request says that its body is a form which may hold files."""
    return any(
        name == b"content-type" and value.lower().startswith(b"multipart/form-data") for name, value in scope["headers"]
    )


def declared_length(scope: MutableMapping[str, Any]) -> int:
    """The request's Content-Length in bytes, 0 where there is none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
