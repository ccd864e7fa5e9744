"""The description of the API, for programs as OpenAPI and for people as pages; open to everybody."""

from functools import cache
from typing import Any

from django.http import HttpResponse
from django.views.generic import TemplateView
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request
from rest_framework.response import Response

CONTENT_SECURITY_POLICY = (
    "default-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "worker-src blob:",
    "frame-ancestors 'none'",
)


class SchemaView(SpectacularAPIView):
    """OpenAPI 3.1, as YAML or JSON."""

    throttle_classes = []
    http_method_names = ["get", "head", "options"]

    def _get_schema_response(self, request: Request) -> Response:
        """The same for everybody, so it is made once: that takes half a second, and nobody has to log in for it."""
        name = f"pictor.{self.perform_content_negotiation(request, force=True)[0].format}"
        headers = {"Content-Disposition": f'inline; filename="{name}"', "Cache-Control": "public, max-age=300"}
        return Response(description(), headers=headers)


@cache
def description() -> dict[str, Any]:
    """What the code says about the API."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


class DocumentView(TemplateView):
    """A page that shows the description, all of it from here: Redoc would fetch its maker's logo."""

    http_method_names = ["get", "head"]

    def render_to_response(self, context: dict[str, Any], **options: Any) -> HttpResponse:
        """The page, which the browser lets load nothing from elsewhere."""
        response = super().render_to_response(context, **options)
        response["Content-Security-Policy"] = "; ".join(CONTENT_SECURITY_POLICY)
        return response
