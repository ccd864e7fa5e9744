"""The chores that keep every promise when something died: each idempotent, in bounded batches, on database time.

Any number of housekeepers may run at once; every change is one conditional UPDATE.
"""

import logging
from datetime import timedelta

from django.db import Error, connection
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from generation import dispatch, line, storage
from generation.conf import configuration
from generation.models import Attempt, DiffusionModel, Generation

logger = logging.getLogger(__name__)

BATCH = 100
STRAY_AFTER = timedelta(hours=1)


def fill_windows() -> int:
    """Publish what waits in the database wherever the broker's window has room."""
    in_line = DiffusionModel.objects.filter(Exists(Generation.objects.undispatched().filter(model=OuterRef("pk"))))
    return dispatch.publish_pinned() + sum(dispatch.top_up(model) for model in in_line)


def redispatch_overdue() -> int:
    """Publish anew what was dispatched and not claimed in time: its message may be lost."""
    overdue = Generation.objects.overdue().select_related("model", "pinned_to")
    return dispatch.publish_all(overdue[:BATCH])


def hurry_starving() -> int:
    """Put one of each owner who has waited too long before all others, so that no priority keeps anybody waiting."""
    starving = Generation.objects.starving(rank=line.HURRIED, longest=configuration().longest_wait)
    owners = list(starving.order_by().values_list("owner", "model").distinct()[:BATCH])
    first = (starving.filter(owner=owner, model=model).first() for owner, model in owners)
    return sum(generation.hurry(line.HURRIED) for generation in first if generation is not None)


def rescue_expired() -> int:
    """Take generations from workers that were not heard of within the lease."""
    rescued = 0
    for generation in Generation.objects.expired()[:BATCH]:
        attempt = generation.attempts.open().last()
        if attempt is not None and generation.rescue(attempt):
            logger.warning("%s: its worker %s was lost; it is %s.", generation, attempt.worker, generation.status)
            rescued += 1
    return rescued


def remove_stray_files() -> int:
    """Remove what unsuccessful attempts left on storage."""
    stray = Attempt.objects.with_stray_files().filter(ended_at__lt=Now() - STRAY_AFTER)
    attempts = list(stray.select_related("generation")[:BATCH])
    return sum(storage.try_to_remove_attempt(attempt) for attempt in attempts)


CHORES = (rescue_expired, hurry_starving, redispatch_overdue, fill_windows, remove_stray_files)


def do_chores() -> None:
    """Every chore once; one that fails keeps none of the others from being done."""
    for chore in CHORES:
        try:
            chore()
        except Error as error:
            logger.warning("%s waits, the database answers: %s", chore.__name__, error)
            connection.close()
        except Exception:
            logger.exception("%s failed; it is tried again.", chore.__name__)
