"""Security headers of static files, which are served before Django's SecurityMiddleware sees the request."""

from wsgiref.headers import Headers

from django.conf import settings


def add_security_headers(headers: Headers, path: str, url: str) -> None:
    """Add what SecurityMiddleware would: no guessing of types, and HSTS in the production profile."""
    headers["X-Content-Type-Options"] = "nosniff"
    if settings.SECURE_HSTS_SECONDS:
        directives = [f"max-age={settings.SECURE_HSTS_SECONDS}"]
        if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS:
            directives.append("includeSubDomains")
        if settings.SECURE_HSTS_PRELOAD:
            directives.append("preload")
        headers["Strict-Transport-Security"] = "; ".join(directives)
