"""Every endpoint that the URL resolver knows, but for the admin's."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ("get", "post", "put", "patch", "delete")
ANY = "ANY"  # a plain function, which decides for itself


def endpoints() -> list[str]:
    """All of them as `GET api/generations/<uuid:pk>/`."""
    return sorted(f"{method} {route}" for route, callback in routes(get_resolver()) for method in methods(callback))


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each route with what answers it."""
    for pattern in resolver.url_patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLPattern):
            yield route, pattern.callback
        elif pattern.app_name != "admin":
            yield from routes(pattern, route)


def methods(callback: Any) -> list[str]:
    """The methods that it answers, in capitals; OPTIONS and HEAD follow from them."""
    if actions := getattr(callback, "actions", None):
        return [method.upper() for method in actions if method in METHODS]
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    if view is None:
        return [ANY]
    allowed = callback.view_initkwargs.get("http_method_names", view.http_method_names)
    return [method.upper() for method in METHODS if method in allowed and hasattr(view, method)]
