"""The web service as an ASGI application: Django behind a limit on the size of a body."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup(set_prefix=False)  # as django.core.asgi.get_asgi_application does

from django.conf import settings  # noqa: E402  Django must be set up first

from project.body_limit import BodyLimit  # noqa: E402
from project.databases import share_connections  # noqa: E402
from project.fal_host import FalHost  # noqa: E402
from project.handler import Handler  # noqa: E402

share_connections(settings.DATABASES)
application = FalHost(
    BodyLimit(Handler(), max_bytes=settings.MAX_BODY_BYTES, max_upload_bytes=settings.MAX_UPLOAD_BYTES)
)
