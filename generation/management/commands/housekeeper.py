"""`manage.py housekeeper`: does the chores every second until it is told to stop."""

import logging
import signal
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error, connection

from generation.conf import configuration
from generation.devices import local_host
from generation.housekeeping import do_chores
from generation.models import Housekeeper

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Dispatches what waits, rescues what was lost, removes stray files. Any number of them may run."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        stopped = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        logger.info("The housekeeper is at work.")
        while not stopped.wait(configuration().sweep_seconds):
            do_chores()
            self.sign()

    def sign(self) -> None:
        """Let the workers see that there is a housekeeper."""
        try:
            Housekeeper.objects.sign(local_host())
        except Error:
            connection.close()  # the chores have said so already
