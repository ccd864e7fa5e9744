"""The chores that clean: what failed, was forgotten or is old goes away, a batch at a time."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Now

from generation import inputs, saved_states, storage
from generation.conf import configuration
from generation.models import Attempt, Batch, DailyUsage, Generation, WebhookEvent
from generation.models.webhook import Kind

logger = logging.getLogger(__name__)

BATCH = 100
STRAY_AFTER = timedelta(hours=1)
HALF_AFTER = timedelta(days=1)
KEYS_KEPT = timedelta(hours=24)
PROGRESS_KEPT = timedelta(hours=24)
ROUND_SECONDS = 24 * 3600.0
ROUND_OF_STATES_SECONDS = 60.0


def remove_stray_files(older_than: timedelta = STRAY_AFTER) -> int:
    """Remove what unsuccessful attempts left on storage."""
    stray = Attempt.objects.with_stray_files().filter(ended_at__lt=Now() - older_than)
    attempts = list(stray.select_related("generation")[:BATCH])
    return sum(storage.try_to_remove_attempt(attempt) for attempt in attempts)


def expire_results() -> int:
    """Remove the images of generations that finished too long ago, and their rows too where the setting says so."""
    keep = configuration().retention
    if keep is None:
        return 0
    old = list(Generation.objects.past_keeping(keep=keep)[:BATCH])
    return sum(expire(generation) for generation in old)


def expire(generation: Generation) -> bool:
    """Files first: if the storage fails the row is still there, and it is tried again."""
    for attempt in generation.attempts.filter(files_removed_at=None).select_related("generation"):
        if not storage.try_to_remove_attempt(attempt):
            return False
    if configuration().keeps_rows:
        return generation.expire()
    generation.delete()
    return True


class Walk:
    """A slow walk through all folders of the storage, which goes on where it stopped and rests at the end.

    Or through what else `all_ids` gives the generations of, one after another.
    """

    def __init__(
        self,
        root: str = storage.ROOT,
        *,
        round_seconds: float = ROUND_SECONDS,
        all_ids: Callable[[], Iterator[UUID]] | None = None,
    ) -> None:
        self._all_ids = all_ids or partial(storage.generations_with_files, root)
        self._round_seconds = round_seconds
        self._ids: Iterator[UUID] = iter(())
        self._next_round_at = 0.0

    def next_ids(self, count: int) -> list[UUID]:
        """The generations whose folders come next; none until it is time for the next round."""
        ids = list(islice(self._ids, count))
        if not ids and time.monotonic() >= self._next_round_at:
            self._next_round_at = time.monotonic() + self._round_seconds
            self._ids = self._all_ids()
        return ids


_walk = Walk()
_walk_over_states = Walk(saved_states.ROOT, round_seconds=ROUND_OF_STATES_SECONDS)
_walk_over_redis = Walk(round_seconds=ROUND_OF_STATES_SECONDS, all_ids=saved_states.generations_in_redis)
_half_uploads_at = 0.0


def remove_orphans(walk: Walk = _walk) -> int:
    """Remove the folders of generations that have no row any more, a few each time.

    Files come before the row when one is deleted; but a worker that was paused meanwhile may store some afterwards.
    """
    ids = [generation_id for generation_id in walk.next_ids(BATCH) if age(generation_id) > STRAY_AFTER]
    known = set(Generation.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    orphans = [generation_id for generation_id in ids if generation_id not in known]
    for generation_id in orphans:
        logger.warning("Removing the files of %s, which has no row.", generation_id)
        storage.remove_generation(generation_id)
    return len(orphans)


def remove_states(*walks: Walk) -> int:
    """Remove the saved states of generations that have ended, which their workers do themselves unless they die."""
    ids = [one for walk in walks or (_walk_over_states, _walk_over_redis) for one in walk.next_ids(BATCH)]
    going_on = set(Generation.objects.unfinished().filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    ended = [generation_id for generation_id in ids if generation_id not in going_on]
    for generation_id in ended:
        saved_states.forget(generation_id)
    return len(ended)


def age(generation_id: UUID) -> timedelta:
    """How long ago it was made: a UUID of version 7 begins with its time in milliseconds (RFC 9562).

    Of another version, a client's own, nothing is known; its row came before its files in any case.
    """
    if generation_id.version != 7:
        return timedelta.max
    return timedelta(seconds=time.time() - (generation_id.int >> 80) / 1000)


def abort_half_uploads() -> int:
    """Once an hour: end uploads to S3 in parts that began a day ago; they cost, and nobody sees them."""
    global _half_uploads_at
    if time.monotonic() < _half_uploads_at:
        return 0
    _half_uploads_at = time.monotonic() + 3600.0
    return storage.abort_uploads(before=datetime.now(UTC) - HALF_AFTER)


def remove_expired_inputs() -> int:
    """Remove uploaded pictures whose time is over and that no generation has."""
    inputs.expire()
    return inputs.remove_expired(most=BATCH)


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


def forget_usage() -> int:
    """Remove what was used on days that are over, of which nothing depends any more."""
    oldest = DailyUsage.objects.order_by("pk").values_list("pk", "day")[:BATCH]  # they come in the order of their days
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    removed, _ = DailyUsage.objects.filter(pk__in=[pk for pk, day in oldest if day < yesterday]).delete()
    return removed


def batch_of(rows: QuerySet[Any]) -> list[Any]:
    """The keys of so many of the rows as one sweep takes on."""
    return list(rows.order_by().values_list("pk", flat=True)[:BATCH])
