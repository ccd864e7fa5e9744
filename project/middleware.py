"""The innermost middleware, which keeps a request in one thread."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_only_middleware

GetResponse = Callable[[HttpRequest], HttpResponse]


@sync_only_middleware
def in_one_thread(get_response: GetResponse) -> GetResponse:
    """Do nothing, synchronously.

    Under ASGI Django hands each half of each of its middlewares to a thread and waits for it. As this innermost one is
    synchronous, it hands over the whole chain once instead, which saves a third of the time of a small request.
    """
    return get_response
