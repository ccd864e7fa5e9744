"""The thread that does the housekeeper's chores in a worker while no housekeeper does them."""

import logging
from datetime import timedelta
from threading import Event, Thread

from django.db import Error, connection

from generation.conf import configuration
from generation.housekeeping import do_chores
from generation.models import Housekeeper

logger = logging.getLogger(__name__)

MISSED_AFTER = timedelta(seconds=10)
LOOK_SECONDS = 5.0


class Caretaker(Thread):
    """Looks whether there is a housekeeper, and stands in for it; several who do so are in nobody's way."""

    def __init__(self) -> None:
        super().__init__(name="caretaker", daemon=True)
        self._stopped = Event()
        self._stands_in = False

    def run(self) -> None:
        """Look until stopped; a database that is away for a while ends nothing here."""
        while not self._stopped.wait(configuration().sweep_seconds if self._stands_in else LOOK_SECONDS):
            self.look()
        connection.close()

    def stop(self) -> None:
        """Stop after the current round; nobody has to wait for it."""
        self._stopped.set()

    def look(self) -> None:
        """Do the chores if no housekeeper has done them lately."""
        try:
            is_missed = not Housekeeper.objects.alive(within=MISSED_AFTER).exists()
        except Error:
            connection.close()
            return  # nothing can be done without the database
        if is_missed != self._stands_in:
            logger.warning("No housekeeper was seen lately: standing in." if is_missed else "A housekeeper is back.")
        self._stands_in = is_missed
        if is_missed:
            do_chores()
