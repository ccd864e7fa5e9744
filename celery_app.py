"""The Celery application, configured from Django's settings."""

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("pictor")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def keep_logging_as_it_is(**_: Any) -> None:
    """Being connected is enough: Celery then leaves logging to Django's settings."""
