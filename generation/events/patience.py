"""How long Redis may take to answer an event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def answers_within(
    seconds: float,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Have a call raise TimeoutError if it takes longer.

    redis-py's own socket_timeout is not for event loops: before Python 3.12 asyncio.wait_for, with which it sends,
    forgets a cancellation that comes in the moment in which it ends (https://github.com/python/cpython/issues/86296),
    and who is cancelled, or waits with a time-out, may wait for ever.
    """

    def bound(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(call)
        async def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                async with asyncio.timeout(seconds):
                    return await call(*args, **kwargs)
            except TimeoutError as error:
                raise TimeoutError(f"No answer within {seconds:g} s.") from error

        return bounded

    return bound
