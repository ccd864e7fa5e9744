"""A limit on request bodies in front of Django, which would otherwise spool any amount of bytes to disk."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from api.dialects.pictures import IN_JSON
from api.errors import answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class BodyTooLarge(Exception):
    """Raised inside the application's `receive` when a body without a declared length grows past the limit."""


class BodyLimit:
    """Answers 413, with a problem detail (RFC 9457) or in a dialect's words, to a body larger than `max_bytes`.

    One with files (`multipart/form-data`, and the JSON of dialects that have them in it) may have `max_upload_bytes`.
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
            return await refuse(send, most=most, path=scope["path"])

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
                await refuse(send, most=most, path=scope["path"])


async def refuse(send: Send, *, most: int, path: str) -> None:
    """Send the 413 and ask for the connection to be closed: the rest of the body is not read."""
    sentence = f"The body of this request may hold at most {most} bytes. Send a smaller one."
    response = answer(413, code="body_too_large", detail=sentence, path=path)
    headers = [(b"content-type", response["Content-Type"].encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


def has_files(scope: MutableMapping[str, Any]) -> bool:
    """Whether the request says that its body is a form, or is for a place, which may hold files."""
    return scope["path"].startswith(IN_JSON) or any(
        name == b"content-type" and value.lower().startswith(b"multipart/form-data") for name, value in scope["headers"]
    )


def declared_length(scope: MutableMapping[str, Any]) -> int:
    """The request's Content-Length in bytes, 0 where there is none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
