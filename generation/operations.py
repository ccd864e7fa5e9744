"""What the outside may do with generations: submit, cancel, retry, delete."""

import secrets
from collections.abc import Iterable
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from generation import dispatch, line, storage
from generation.errors import AlreadyFinished, InvalidParameters, NotFinished, NotRetryable
from generation.lifecycle import Status
from generation.models import Device, Generation
from generation.models.generation import MAX_SEED
from generation.models.many import withdraw_all
from generation.models.queries import GenerationQuerySet
from generation.parameters import Parameters, Wishes, resolve

CANCELLED_AT_ONCE = 500
PARAMETERS_OF_A_ROW = tuple(Parameters.__dataclass_fields__)


def submit(wishes: Wishes, *, owner: AbstractBaseUser, pinned_to: Device | None = None) -> Generation:
    """Accept a request: the row is stored, and after the commit it is dispatched as soon as there is room.

    Raises InvalidParameters; then nothing is stored.
    """
    if wishes.priority > 0 and not getattr(owner, "is_staff", False):
        raise InvalidParameters({"priority": "Only staff may ask for a priority above 0."})
    parameters = resolve(wishes, draw_seed=draw_seed)
    values = {name: getattr(parameters, name) for name in PARAMETERS_OF_A_ROW}
    with transaction.atomic():
        generation = Generation(owner_id=owner.pk, pinned_to=pinned_to, **values)
        generation.total_steps = generation.num_inference_steps
        line.join(generation)
        generation.save(force_insert=True)
        transaction.on_commit(lambda: dispatch.send_off(generation), robust=True)
    return generation


def cancel(generation: Generation) -> Generation:
    """Cancel it at once if it waits; ask its worker to stop if it runs. Doing so twice is the same as once.

    The returned row is `cancelled`, or `running` with `cancel_requested_at` set. Raises AlreadyFinished.
    """
    while True:
        if generation.withdraw():
            return generation
        if generation.request_cancel():
            # After the commit and never before: the flag in the database is what decides, this is only faster.
            transaction.on_commit(lambda: dispatch.revoke(generation), robust=True)
            return generation
        if generation.status == Status.CANCELLED:
            return generation
        if generation.is_finished:
            raise AlreadyFinished(f"It has {generation.status} already; there is nothing left to cancel.")
        # Released to the queue between the two updates: it waits again, so it can be withdrawn.


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
    waiting = generations.queued().order_by("id").values_list("pk", flat=True)
    count = 0
    while ids := list(waiting[:CANCELLED_AT_ONCE]):
        count += withdraw_all(ids)
    return count


def revoke_all(generations: Iterable[Generation]) -> None:
    """Tell the workers of all of them to look."""
    for generation in generations:
        dispatch.revoke(generation)


def retry(generation: Generation) -> Generation:
    """Submit the same parameters, seed included, once more. Raises NotRetryable, or InvalidParameters if its
    model no longer takes them.
    """
    if generation.status not in (Status.FAILED, Status.CANCELLED):
        raise NotRetryable(f"It is {generation.status}; only failed and cancelled ones can be made again.")
    values = {name: getattr(generation, name) for name in PARAMETERS_OF_A_ROW}
    priority = generation.priority if generation.owner.is_staff else min(generation.priority, 0)
    wishes = Wishes(**values | {"model": generation.model.slug, "priority": priority})
    return submit(wishes, owner=generation.owner)


def delete(generation: Generation) -> None:
    """Remove a finished generation: its files, then its record. Raises NotFinished."""
    if not generation.is_finished:
        raise NotFinished(f"It is {generation.status}. Cancel it first, then delete it.")
    # Files first: if storage fails half-way the record is still there, and deleting can be tried again.
    for attempt in generation.attempts.filter(files_removed_at=None).select_related("generation"):
        storage.remove_attempt(attempt)
    generation.delete()


def draw_seed() -> int:
    """A seed that nobody can guess, with room above it for the seeds of many images."""
    return secrets.randbelow(MAX_SEED - 1000)
