"""The chores that keep every promise when something died: each idempotent, in bounded batches, on database time.

Any number of housekeepers may run at once; every change is one conditional UPDATE.
"""

import logging
import time
from contextlib import suppress
from itertools import chain

from django.db import Error, connection, transaction
from django.db.models import Exists, OuterRef

from generation import dispatch, line, operations
from generation.cleaning import (
    BATCH,
    abort_half_uploads,
    expire_results,
    forget_keys,
    forget_progress,
    forget_usage,
    remove_expired_inputs,
    remove_orphans,
    remove_states,
    remove_stray_files,
)
from generation.conf import configuration
from generation.errors import AlreadyFinished
from generation.events.positions import positions
from generation.events.publisher import tell
from generation.lifecycle import CancelReason, Outcome
from generation.models import Attempt, Device, DiffusionModel, Generation, WebhookEvent

logger = logging.getLogger(__name__)

_answers_since: float | None = None
_last_round_at = 0.0


def do_chores() -> None:
    """Every chore once; one that fails keeps none of the others from being done."""
    global _answers_since, _last_round_at
    now = time.monotonic()
    if _answers_since is None or now - _last_round_at > configuration().lease.total_seconds() / 2:
        _answers_since = now  # what was in between is not known here
    _last_round_at = now
    for chore in CHORES:
        try:
            chore()
        except Error as error:
            logger.warning("%s waits, the database answers: %s", chore.__name__, error)
            connection.close()
            _answers_since = None
            return  # the others need it too
        except Exception:
            logger.exception("%s failed; it is tried again.", chore.__name__)


def fill_windows() -> int:
    """Publish what waits in the database wherever the broker's window has room."""
    in_line = DiffusionModel.objects.filter(Exists(Generation.objects.undispatched().filter(model=OuterRef("pk"))))
    return dispatch.publish_pinned() + dispatch.top_up_all(in_line)


def redispatch_overdue() -> int:
    """Publish anew what was dispatched and not claimed in time: its message may be lost."""
    overdue = Generation.objects.overdue().select_related("model", "pinned_to")
    return dispatch.publish_all(overdue[:BATCH])


def redispatch_to_idle() -> int:
    """Publish anew what a device would have begun by now, had it got the message.

    Each message waits twice as long as the one before until it is made anew, for there may be no worker. Where there is
    one with nothing to do, that would only make a loss last.
    """
    settings, published = configuration(), 0
    unheard = Generation.objects.unheard(since=settings.redispatch, lease=settings.lease).filter(pinned_to=None)
    for model in DiffusionModel.objects.filter(Exists(unheard.filter(model=OuterRef("pk")))):
        of_model = unheard.filter(model=model).select_related("model", "pinned_to")
        published += dispatch.publish_all(of_model[: Device.objects.idle_slots_for(model)])
    return published


def hurry_starving() -> int:
    """Put one of each owner who has waited too long before all others, so that no priority keeps anybody waiting."""
    starving = Generation.objects.starving(rank=line.HURRIED, longest=configuration().longest_wait)
    owners = list(starving.order_by().values_list("owner", "model").distinct()[:BATCH])
    first = (starving.filter(owner=owner, model=model).first() for owner, model in owners)
    return sum(generation.hurry(line.HURRIED) for generation in first if generation is not None)


def rescue_after_patience() -> int:
    """Rescue what expired, once the database has answered for half a lease.

    While it was away, or SQLite's write lock was held, no worker could renew one: those who live do so first, and go on
    with what they run.
    """
    global _answers_since
    patience, asked_at = configuration().lease.total_seconds() / 2, time.monotonic()
    if _answers_since is None or asked_at - _answers_since < patience or not Generation.objects.expired().exists():
        return 0
    with transaction.atomic():
        waited = time.monotonic() - asked_at  # for the write lock; PostgreSQL has none
    if waited > patience:
        _answers_since = time.monotonic()
        return 0
    return rescue_expired()


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


def close_attempts() -> int:
    """Close attempts that are open although their generation has gone on without them."""
    orphaned = Attempt.objects.orphaned()[:BATCH]
    for attempt in orphaned:
        attempt.close(Outcome.LOST, detail="It was still open after its generation had gone on.")
    return len(orphaned)


def end_overdue() -> int:
    """Cancel what is past its deadline. Workers see that by themselves; this is for what waits, and in case."""
    overdue = Generation.objects.past_deadline().filter(cancel_requested_at=None)
    late = Generation.objects.late_to_start()
    cancelled = 0
    for generation in chain(*(some.select_related("model")[:BATCH] for some in (overdue, late))):
        with suppress(AlreadyFinished, Generation.DoesNotExist):
            operations.cancel(generation, reason=CancelReason.DEADLINE)
            cancelled += 1
    return cancelled


def send_webhooks() -> int:
    """Publish the webhook events that are due: those whose message was lost, and those to be tried again."""
    return dispatch.publish_events(WebhookEvent.objects.due())


def tell_positions() -> int:
    """Tell those who listen how far their waiting generations have come."""
    return positions.tell_changes()


CHORES = (
    rescue_after_patience,
    close_attempts,
    end_overdue,
    hurry_starving,
    redispatch_overdue,
    redispatch_to_idle,
    fill_windows,
    send_webhooks,
    tell_positions,
    remove_stray_files,
    remove_orphans,
    remove_states,
    abort_half_uploads,
    remove_expired_inputs,
    expire_results,
    forget_keys,
    forget_progress,
    forget_usage,
)
