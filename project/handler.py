"""Django's ASGI handler, made frugal with threads where an answer is a stream."""

from asgiref.sync import SyncToAsync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase


class Handler(ASGIHandler):
    """Gives the thread of a request back before its answer is streamed."""

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """The answer of the middleware and the view."""
        response = await super().run_get_response(request)
        if isinstance(response, StreamingHttpResponse) and response.is_async:
            await give_thread_back()
        return response


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
