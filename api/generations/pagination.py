"""Pages of lists that grow at their beginning."""

from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

ASK_AGAIN_AFTER_SECONDS = "1"


class NewestFirst(CursorPagination):
    """Pages that stay put while new rows come in: `arrival` grows with time."""

    ordering = "-arrival"
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100

    def decode_cursor(self, request: Request) -> Any:
        """The cursor that the request names, if any; raises NotFound for one that was made up."""
        cursor = super().decode_cursor(request)
        try:
            if cursor is not None and cursor.position is not None:
                UUID(str(cursor.position))
        except ValueError as error:
            raise NotFound(self.invalid_cursor_message) from error
        return cursor
