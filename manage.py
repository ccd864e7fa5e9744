#!/usr/bin/env python
"""Django's command line for Pictor: `manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    """Run a management command; a mistake in the configuration ends as one sentence."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        settings.INSTALLED_APPS  # noqa: B018  reads the settings now, where a mistake can be told apart
    except ImproperlyConfigured as error:
        sys.exit(f"pictor: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
