"""The model server's HTTP: an ASGI application around a Host (docs/protocol.md has the paths)."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from generation.engines.errors import EngineError
from generation.runtimes import packing
from generation.runtimes.errors import BadMessage, ServerBusy
from generation.runtimes.frames import MOST_HEADER_BYTES, MOST_PAYLOAD_BYTES, PREFIX, Frame, Kind, parse_frame
from generation.runtimes.server.host import Host
from generation.runtimes.server.job import Job

FRAMES = "application/vnd.pictor.frames"
PIXELS = "application/octet-stream"
MOST_BODY_BYTES = PREFIX.size + MOST_HEADER_BYTES + MOST_PAYLOAD_BYTES  # one frame
STATUS = {
    "bad_message": 400,
    "model_unavailable": 404,
    "unsupported_parameter": 422,
    "unusable_state": 422,
    "server_busy": 503,
    "server_unavailable": 503,
    "device_lost": 503,
    "out_of_memory": 507,
}


def create_app(host: Host, *, token: str = "") -> Starlette:
    """The application; with a token, all but /health wants to hear it as `Authorization: Bearer`."""
    routes = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/v1/server", describe),
        Route("/v1/models", load, methods=["POST"]),
        Route("/v1/models/{slug:path}/schedulers", schedulers),
        Route("/v1/models/{slug:path}", unload, methods=["DELETE"]),
        Route("/v1/generations", generate, methods=["POST"]),
        Route("/v1/generations/{id}/{wish}", ask, methods=["POST"]),
    ]
    guards = [Middleware(TokenGuard, token=token)] if token else []
    app = Starlette(routes=routes, middleware=guards, exception_handlers={EngineError: refuse})
    app.state.host = host
    return app


def host_of(request: Request) -> Host:
    """The host behind the application."""
    host: Host = request.app.state.host
    return host


async def health(request: Request) -> Response:
    """Whether it takes generations: 200, or 503 while it stops."""
    is_stopping = host_of(request).is_stopping
    return JSONResponse({"status": "stopping" if is_stopping else "ok"}, status_code=503 if is_stopping else 200)


async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(host_of(request).metrics.text(), media_type="text/plain; version=0.0.4")


async def describe(request: Request) -> Response:
    """The device, the models in memory and what is known of them, the slots and how many are taken."""
    return JSONResponse(packing.pack_server(host_of(request).describe()))


async def load(request: Request) -> Response:
    """Have a model in memory; answers when it is, with the same as `describe`."""
    host = host_of(request)
    await host.load(packing.unpack_source(parse_json(await body_of(request))))
    return JSONResponse(packing.pack_server(host.describe()))


async def unload(request: Request) -> Response:
    """Forget a model."""
    await host_of(request).unload(request.path_params["slug"])
    return Response(status_code=204)


async def schedulers(request: Request) -> Response:
    """The names of those that fit a loaded model."""
    return JSONResponse({"schedulers": await host_of(request).schedulers(request.path_params["slug"])})


async def generate(request: Request) -> Response:
    """Draw: a stream of frames for who accepts them, else the pixels when they are there."""
    body = await body_of(request)
    if request.headers.get("content-type", "").startswith(FRAMES):
        frame = parse_frame(body)
    else:
        frame = Frame(Kind.GENERATE, parse_json(body))
    if frame.kind != Kind.GENERATE:
        raise BadMessage("Only a GENERATE can be sent here.")
    job = host_of(request).start(frame)
    if FRAMES in request.headers.get("accept", ""):
        return StreamingResponse(chunks_of(job), media_type=FRAMES, headers={"Pictor-Generation": job.id})
    return StreamedPixels(job)


async def ask(request: Request) -> Response:
    """Cancel, preview or save: what comes of it comes in the stream."""
    job = host_of(request).jobs.get(request.path_params["id"])
    wishes = {"cancel": Kind.CANCEL, "preview": Kind.PREVIEW, "save": Kind.SAVE}
    wish = wishes.get(request.path_params["wish"])
    if job is None or wish is None:
        return problem({"code": "not_found", "detail": "No such generation runs here, or no such wish is known."}, 404)
    job.ask(wish)
    return Response(status_code=202)


async def body_of(request: Request) -> bytearray:
    """The whole body. Raises BadMessage for one that is too large."""
    too_large = BadMessage(f"The body has more than {MOST_BODY_BYTES} bytes.")
    if int(request.headers.get("content-length", 0)) > MOST_BODY_BYTES:  # a number: the parser of HTTP has looked
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY_BYTES:
                raise too_large
    except ClientDisconnect as error:
        raise BadMessage("The body ended early.") from error
    return body


def parse_json(body: bytearray) -> dict[str, Any]:
    """A body in JSON. Raises BadMessage."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"The body is no JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise BadMessage("The body is an object of JSON.")
    return parsed


async def chunks_of(job: Job) -> AsyncIterator[bytes | memoryview]:
    """The frames of a generation, as chunks of a body."""
    async for frame in job.frames():
        first, *parts = frame.buffers()
        yield bytes(first)
        for part in parts:
            yield memoryview(part)


async def refuse(request: Request, error: Exception) -> Response:
    """An error as a problem detail (RFC 9457)."""
    return problem_of(packing.pack_error(error))


def problem_of(error: dict[str, Any]) -> Response:
    """The answer to an error that `packing.pack_error` has packed."""
    response = problem(error, STATUS.get(error["code"], 500))
    if error["code"] == ServerBusy.code:
        response.headers["Retry-After"] = str(math.ceil(error["retry_after_seconds"]))
    return response


def problem(content: dict[str, Any], status: int) -> Response:
    """A problem detail."""
    return JSONResponse(content | {"status": status}, status_code=status, media_type="application/problem+json")


class StreamedPixels(Response):
    """The answer for who wants the pixels and nothing else; who hangs up cancels."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the last frame, or for the client to vanish."""
        async with anyio.create_task_group() as group:

            async def answer() -> None:
                await answer_to(await self._job.last_frame())(scope, receive, send)
                group.cancel_scope.cancel()

            group.start_soon(answer)
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()


def answer_to(frame: Frame) -> Response:
    """The last frame of a generation as an answer of its own."""
    match frame.kind:
        case Kind.RESULT:
            headers = {
                "Pictor-Shape": ",".join(str(length) for length in frame.header["shape"]),
                "Pictor-Pipeline-Seconds": f"{frame.header['pipeline_seconds']:.6f}",
                "Pictor-Server-Seconds": f"{frame.header['times']['total_seconds']:.6f}",
            }
            return Response(bytes(frame.payload), media_type=PIXELS, headers=headers)
        case Kind.ERROR:
            return problem_of(frame.header)
        case _:
            return problem({"code": "stopped", "detail": "The generation was cancelled."}, 409)


class TokenGuard:
    """Lets nobody in who does not know the token."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await problem({"code": "unauthorized", "detail": "Send the server's token."}, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)
