"""Django's ASGI handler, made for answers that take long: they hold no thread, and end when the process is to stop."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from api.held import HeldResponse
from generation.events.hub import this_hub

_is_listening_to_signals = False


class Handler(ASGIHandler):
    """Gives back what a request holds before its answer is sent, waited for or streamed."""

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of the middleware and the view."""
        response = await super().run_get_response(request)
        is_stream = isinstance(response, StreamingHttpResponse) and response.is_async
        if is_stream or isinstance(response, HeldResponse):
            close_hub_on_signals()
            await give_thread_back()
        else:
            await give_connection_back()
        if isinstance(response, HeldResponse):
            await response.release()
        return response


async def give_connection_back() -> None:
    """Let others have the request's database connection before its answer is sent: a client may read it slowly."""
    if SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor:
        await sync_to_async(connections.close_all)()


async def give_thread_back() -> None:
    """End the thread that the middleware and the view ran in, with its database connection.

    asgiref keeps one thread for each request until its end, which for a stream of events may be hours away. If this
    request needs one again, to close its answer, it gets a new one.
    """
    await sync_to_async(connections.close_all)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor is not None:
        executor.shutdown(wait=False)


def close_hub_on_signals() -> None:
    """Have the streams end as soon as the process is told to stop.

    The server would wait for them, and tells its application that it stops only after that.
    """
    global _is_listening_to_signals
    if _is_listening_to_signals or threading.current_thread() is not threading.main_thread():
        return
    _is_listening_to_signals = True
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, closing_hub(signal.getsignal(number)))


def closing_hub(otherwise: Any) -> Callable[[int, FrameType | None], None]:
    """A handler of signals that closes the hub of this event loop, then does what was done before."""
    loop, hub = asyncio.get_running_loop(), this_hub()

    def close(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(hub.close)
        if callable(otherwise):
            otherwise(number, frame)

    return close
