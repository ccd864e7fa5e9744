"""Pages of lists that grow at their beginning."""

import re
from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

ASK_AGAIN_AFTER_SECONDS = "1"
EXAMPLE_OF_A_PAGE = "https://pictor.example.org/api/generations/?cursor=cD0wMWEyMTU4Yw%3D%3D"
PAGE_SIZE = re.compile(r"[0-9]{1,9}")


class NewestFirst(CursorPagination):
    """Pages that stay put while new rows come in: `arrival` grows with time."""

    ordering = "-arrival"
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100

    def get_page_size(self, request: Request) -> int | None:
        """How many the request asks for; raises ValidationError for what is no such number."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return self.page_size
        if not PAGE_SIZE.fullmatch(asked) or not 1 <= int(asked) <= self.max_page_size:
            raise ValidationError({"page_size": f"It must be a number from 1 to {self.max_page_size}."})
        return int(asked)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """The cursor and the size of a page, for the description of the API."""
        cursor, size = super().get_schema_operation_parameters(view)
        cursor["schema"] |= {"pattern": r"^[^\x00]*$"}
        size["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [cursor, size]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """What a page looks like; links in the example are like ours."""
        described = super().get_paginated_response_schema(schema)
        for name in ("next", "previous"):
            described["properties"][name]["example"] = EXAMPLE_OF_A_PAGE
        return described

    def decode_cursor(self, request: Request) -> Any:
        """The cursor that the request names, if any; raises NotFound for one that was made up."""
        cursor = super().decode_cursor(request)
        try:
            if cursor is not None and cursor.position is not None:
                UUID(str(cursor.position))
        except ValueError as error:
            raise NotFound(self.invalid_cursor_message) from error
        return cursor
