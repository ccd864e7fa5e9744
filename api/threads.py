"""The database and the storage from the event loop, for answers whose request has given its own thread back."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

Answer = TypeVar("Answer")


async def in_thread(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns in a thread of the event loop, which is nobody's for long; what it raises comes out."""

    def asked() -> Answer:
        try:
            return ask()
        finally:
            connections.close_all()

    return await asyncio.to_thread(asked)
