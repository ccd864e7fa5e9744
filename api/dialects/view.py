"""What the views of all dialects are: for keys only, in JSON, with errors in the dialect's own shape."""

from collections.abc import Callable
from typing import Any, cast

from drf_standardized_errors.handler import exception_handler
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.authentication import ApiKeyAuthentication, HasScope
from api.negotiation import WhateverIsAccepted

Problem = dict[str, Any]
"""The members of a problem detail, as `api.errors` makes it."""


class DialectView(APIView):
    """Base of the views of a dialect, each of which says how it puts a problem."""

    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [IsAuthenticated, HasScope]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = WhateverIsAccepted
    schema = None  # the description of our API leaves these out: their makers describe them, and docs/dialects.md

    def error_of(self, problem: Problem) -> dict[str, Any]:
        """The problem in the dialect's words."""
        raise NotImplementedError

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        """As everywhere, but for the words."""

        def handle(error: Exception, context: dict[str, Any]) -> Response | None:
            response = exception_handler(error, cast(Any, context))
            if response is not None:
                response.data = self.error_of(response.data)
                response.content_type = JSONRenderer.media_type
            return response

        return handle


class NothingHere(DialectView):
    """Mixed with a dialect's view: the answer to any path that the dialect does not have."""

    def initial(self, request: Request, *arguments: Any, **options: Any) -> None:
        """Who asks is told only after they have said who they are."""
        super().initial(request, *arguments, **options)
        raise NotFound(f"There is nothing at {request.path}.")
