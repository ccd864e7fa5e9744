"""What a client accepts does not matter where an endpoint has one format only."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class WhateverIsAccepted(DefaultContentNegotiation):
    """The answer has the format it has; only errors are rendered, and those as JSON."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer, whatever the client accepts."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
