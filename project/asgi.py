"""The web service as an ASGI application: Django behind a limit on the size of a body."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402  Django must be set up first

from project.body_limit import BodyLimit  # noqa: E402

application = BodyLimit(
    django_application, max_bytes=settings.MAX_BODY_BYTES, max_upload_bytes=settings.MAX_UPLOAD_BYTES
)
