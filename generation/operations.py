"""What the outside may do with generations: submit, cancel, retry, delete."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from generation import dispatch, inputs, storage
from generation.errors import AlreadyFinished, NotFinished, NotRetryable
from generation.events.publisher import tell
from generation.lifecycle import CancelReason, Status
from generation.models import Batch, Device, Generation
from generation.models.many import withdraw_all
from generation.models.queries import GenerationQuerySet
from generation.parameters import Wishes
from generation.quotas import Credential
from generation.submission import PARAMETERS_OF_A_ROW, submit_many, submit_one, tell_all
from generation.terms import Asked, Terms

CANCELLED_AT_ONCE = 500
NO_TERMS = Terms()


def submit(
    wishes: Wishes,
    *,
    owner: AbstractBaseUser,
    credential: Credential | None = None,
    terms: Terms = NO_TERMS,
    pinned_to: Device | None = None,
) -> Generation:
    """Accept a request: the row is stored, and after the commit it is dispatched as soon as there is room.

    What an earlier request with the same key or id has made is returned with `is_replay` set; of a new row `quotas`
    tell what is left of the owner's limits and of those of the API key that was used. Raises InvalidParameters,
    LimitReached, ServiceFull, KeyReused, IdTaken or InFlight, and then nothing is stored; StorageUnavailable if there
    is no place for its pictures.
    """
    return submit_one(Asked(wishes, terms), owner=owner, credential=credential, pinned_to=pinned_to)


def submit_again(
    wishes: Wishes,
    *,
    owner: AbstractBaseUser,
    credential: Credential | None = None,
    terms: Terms = NO_TERMS,
) -> Generation:
    """What an equal request has made within the last quarter of an hour, or else as `submit`.

    For the second try of a client that got no answer to its first one, and sends no idempotency key.
    """
    return submit_one(Asked(wishes, terms), owner=owner, credential=credential, is_second_try=True)


def submit_batch(
    requests: Sequence[Asked],
    *,
    owner: AbstractBaseUser,
    credential: Credential | None = None,
    idempotency_key: str = "",
) -> Batch:
    """Accept up to a hundred requests, all or none; otherwise as `submit`.

    A fault is named by its request and its field: `requests.3.width`.
    """
    return submit_many(requests, owner=owner, credential=credential, idempotency_key=idempotency_key)


def cancel(generation: Generation, *, reason: CancelReason = CancelReason.REQUEST) -> Generation:
    """Cancel it at once if it waits; ask its worker to stop if it runs. Doing so twice is the same as once.

    The returned row is `cancelled`, or `running` with `cancel_requested_at` set. Raises AlreadyFinished.
    """
    while True:
        if withdraw(generation, reason=reason):
            return generation
        if generation.request_cancel(reason=reason):
            transaction.on_commit(lambda: tell(generation, is_stopping=True), robust=True)
            # After the commit and never before: the flag in the database is what decides, this is only faster.
            transaction.on_commit(lambda: dispatch.revoke(generation), robust=True)
            return generation
        if generation.status == Status.CANCELLED:
            return generation
        if generation.is_finished:
            raise AlreadyFinished(f"It has {generation.status} already; there is nothing left to cancel.")
        # Released to the queue between the two updates: it waits again, so it can be withdrawn.


def withdraw(generation: Generation, *, reason: CancelReason = CancelReason.REQUEST) -> bool:
    """Cancel it if it waits, and tell of that; False if it does not."""
    is_done = generation.withdraw(reason=reason)
    if is_done:
        transaction.on_commit(lambda: tell(generation), robust=True)
        transaction.on_commit(lambda: dispatch.notify(generation), robust=True)
    return is_done


def cancel_batch(batch: Batch) -> None:
    """Cancel all that has not ended, as `cancel` does; what ends meanwhile stays as it is."""
    with transaction.atomic():
        for generation in Generation.objects.unfinished().filter(batch=batch).select_related("model"):
            with suppress(AlreadyFinished):
                cancel(generation)


class Cancelled(NamedTuple):
    """What a cancel of many has done: how many ended there and then, how many were asked to stop."""

    cancelled: int
    stopping: int


def cancel_all(generations: GenerationQuerySet) -> Cancelled:
    """Cancel what waits and ask the workers of what runs to stop, in batches, so that nobody else has to wait long."""
    cancelled = withdraw_waiting(generations)
    running = [generation for generation in generations.running() if generation.request_cancel()]
    transaction.on_commit(lambda: revoke_all(running), robust=True)
    return Cancelled(cancelled + withdraw_waiting(generations), len(running))  # some may have been released meanwhile


def withdraw_waiting(generations: GenerationQuerySet) -> int:
    """Cancel those that wait, a batch at a time; returns how many."""
    # What a webhook tells is stored with each change of a status, so these go one by one.
    told = generations.queued().exclude(webhook_url="").select_related("model")
    count = 0
    while some := list(told[:CANCELLED_AT_ONCE]):
        count += sum(withdraw(generation) for generation in some)
    waiting = generations.queued().filter(webhook_url="").order_by("id").values_list("pk", flat=True)
    while ids := list(waiting[:CANCELLED_AT_ONCE]):
        count += withdraw_all(ids)
        tell_all(Generation.objects.filter(pk__in=ids))
    return count


def revoke_all(generations: Iterable[Generation]) -> None:
    """Tell the workers of all of them to look, and who listens."""
    for generation in generations:
        tell(generation, is_stopping=True)
        dispatch.revoke(generation)


def retry(generation: Generation, *, credential: Credential | None = None) -> Generation:
    """Submit the same parameters, seed and pictures included, once more.

    Raises NotRetryable, InvalidParameters if its model no longer takes them or a picture is gone, LimitReached or
    ServiceFull.
    """
    if generation.status not in (Status.FAILED, Status.CANCELLED):
        raise NotRetryable(f"It is {generation.status}; only failed and cancelled ones can be made again.")
    values = {name: getattr(generation, name) for name in PARAMETERS_OF_A_ROW}
    priority = generation.priority if generation.owner.is_staff else min(generation.priority, 0)
    values |= inputs.sources_of(generation)
    wishes = Wishes(**values | {"model": generation.model.slug, "priority": priority})
    told = Terms(
        webhook_url=generation.webhook_url,
        webhook_events=tuple(generation.webhook_events) or None,
        webhook_words=generation.webhook_words,
    )
    return submit(wishes, owner=generation.owner, credential=credential, terms=told)


def delete(generation: Generation) -> None:
    """Remove a finished generation: its files, then its record. Raises NotFinished.

    What it began with is not part of it: an upload goes when its time is over and nobody else has it.
    """
    if not generation.is_finished:
        raise NotFinished(f"It is {generation.status}. Cancel it first, then delete it.")
    # Files first: if storage fails half-way the record is still there, and deleting can be tried again.
    for attempt in generation.attempts.filter(files_removed_at=None).select_related("generation"):
        storage.remove_attempt(attempt)
    generation.delete()
