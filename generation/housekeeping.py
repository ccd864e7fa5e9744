"""The chores that keep every promise when something died: each idempotent, in bounded batches, on database time.

Any number of housekeepers may run at once; every change is one conditional UPDATE.
"""

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from generation import dispatch, inputs, operations, storage
from generation.errors import AlreadyFinished
from generation.events.positions import positions
from generation.events.publisher import tell
from generation.lifecycle import CancelReason, Status
from generation.models import Attempt, Batch, DiffusionModel, Generation, WebhookEvent
from generation.models.webhook import Kind

logger = logging.getLogger(__name__)

BATCH = 100
STRAY_AFTER = timedelta(hours=1)
KEYS_KEPT = timedelta(hours=24)
PROGRESS_KEPT = timedelta(hours=24)


def fill_windows() -> int:
    """Publish what waits in the database wherever the broker's window has room."""
    waiting = DiffusionModel.objects.filter(generations__status=Status.QUEUED, generations__dispatched_at=None)
    return dispatch.publish_pinned() + dispatch.top_up_all(waiting.distinct())


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
            tell(generation)
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


def end_overdue() -> int:
    """Cancel what is past its deadline. Workers see that by themselves; this is for what waits, and in case."""
    overdue = Generation.objects.past_deadline().filter(cancel_requested_at=None)
    cancelled = 0
    for generation in overdue.select_related("model")[:BATCH]:
        with suppress(AlreadyFinished, Generation.DoesNotExist):
            operations.cancel(generation, reason=CancelReason.DEADLINE)
            cancelled += 1
    return cancelled


def send_webhooks() -> int:
    """Publish the webhook events that are due: those whose message was lost, and those to be tried again."""
    return dispatch.publish_events(WebhookEvent.objects.due())


def forget_progress() -> int:
    """Remove the progress events of a day ago, which nobody needs any more."""
    old = WebhookEvent.objects.filter(kind=Kind.PROGRESS, created_at__lt=Now() - PROGRESS_KEPT)
    removed, _ = WebhookEvent.objects.filter(pk__in=batch_of(old)).delete()
    return removed


def forget_keys() -> int:
    """Forget the idempotency keys of a day ago: from then on they may be used for something else."""
    forgotten = 0
    for table in (Generation.objects, Batch.objects):
        old = table.exclude(idempotency_key="").filter(created_at__lt=Now() - KEYS_KEPT)
        forgotten += table.filter(pk__in=batch_of(old)).update(idempotency_key="")
    return forgotten


def batch_of(rows: QuerySet[Any]) -> list[Any]:
    """The keys of so many of the rows as one sweep takes on."""
    return list(rows.order_by().values_list("pk", flat=True)[:BATCH])


def tell_positions() -> int:
    """Tell those who listen how far their waiting generations have come."""
    return positions.tell_changes()


CHORES = (
    rescue_expired,
    end_overdue,
    redispatch_overdue,
    fill_windows,
    send_webhooks,
    tell_positions,
    remove_stray_files,
    remove_expired_inputs,
    forget_keys,
    forget_progress,
)
