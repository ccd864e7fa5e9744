"""The chores that keep every promise when something died: each idempotent, in bounded batches, on database time.

Any number of housekeepers may run at once; every change is one conditional UPDATE.
"""

import logging
from datetime import timedelta

from django.db.models.functions import Now

from generation import dispatch, inputs, storage
from generation.lifecycle import Status
from generation.models import Attempt, DiffusionModel, Generation

logger = logging.getLogger(__name__)

BATCH = 100
STRAY_AFTER = timedelta(hours=1)


def fill_windows() -> int:
    """Publish what waits in the database wherever the broker's window has room."""
    waiting = DiffusionModel.objects.filter(generations__status=Status.QUEUED, generations__dispatched_at=None)
    return dispatch.publish_pinned() + sum(dispatch.top_up(model) for model in waiting.distinct())


def redispatch_overdue() -> int:
    """Publish anew what was dispatched and not claimed in time: its message may be lost."""
    overdue = Generation.objects.overdue().select_related("model", "pinned_to")
    return dispatch.publish_all(overdue[:BATCH])


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


def remove_expired_inputs() -> int:
    """Remove uploaded pictures whose time is over and that no generation has."""
    inputs.expire()
    return inputs.remove_expired(most=BATCH)


CHORES = (rescue_expired, redispatch_overdue, fill_windows, remove_stray_files, remove_expired_inputs)
