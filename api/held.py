"""An answer that is held back until something has happened, without a thread that waits."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpResponse


class HeldResponse(HttpResponse):
    """Sent as it is by servers that cannot wait (WSGI, test clients); ours first awaits `settle`, which may change it.

    All middleware has seen it by then. `settle` runs in the event loop: what asks the database goes to a thread.
    """

    def __init__(self, *arguments: Any, settle: Callable[["HeldResponse"], Awaitable[None]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._settle = settle

    async def release(self) -> None:
        """Wait, then bring the length of the body up to date."""
        await self._settle(self)
        self["Content-Length"] = str(len(self.content))
