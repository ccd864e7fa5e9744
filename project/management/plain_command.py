"""The base of Pictor's own commands: an expected mistake ends as one sentence, Ctrl-C without a word."""

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from project.address import PortUnavailable
from project.child import StartFailed
from project.client import PictureFailed
from project.devices import UnknownDevice
from project.instance import AlreadyRunning
from project.service import BrokerUnavailable

EXPECTED = (
    AlreadyRunning,
    ImproperlyConfigured,
    BrokerUnavailable,
    PictureFailed,
    PortUnavailable,
    StartFailed,
    UnknownDevice,
)


class PlainCommand(BaseCommand):
    """Turns what an operator can put right into a CommandError, in one place for all commands."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command."""
        try:
            return super().execute(*args, **options)
        except EXPECTED as error:
            raise CommandError(str(error)) from error
        except Error as error:
            sentence = str(error).strip().splitlines()[0]
            raise CommandError(
                f"The database cannot be used ({sentence}). Start it or correct DATABASE_URL; "
                "`manage.py migrate` brings its tables up to date."
            ) from error
        except KeyboardInterrupt:
            sys.exit(130)
