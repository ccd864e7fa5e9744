"""Questions about many generations, by name."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Window
from django.db.models.functions import Now, RowNumber

from generation.lifecycle import FINISHED, Status

if TYPE_CHECKING:
    from generation.models.generation import Generation  # noqa: F401  named in quotes below


class GenerationQuerySet(models.QuerySet["Generation"]):
    """Every question that more than one place asks of the table."""

    def owned_by(self, user: AbstractBaseUser) -> "GenerationQuerySet":
        """The user's own."""
        return self.filter(owner_id=user.pk)

    def with_key(self, idempotency_key: str) -> "GenerationQuerySet":
        """The one that was submitted under that key, among those of one owner."""
        # That the key is not empty is what lets a database use the unique index, which leaves empty ones out.
        return self.exclude(idempotency_key="").filter(idempotency_key=idempotency_key).order_by()

    def queued(self) -> "GenerationQuerySet":
        """Waiting ones in the order in which they should run (`generation.line` says whose turn comes when)."""
        return self.filter(status=Status.QUEUED).order_by("rank", "turn_at", "id")

    def starving(self, *, rank: int, longest: timedelta) -> "GenerationQuerySet":
        """Waiting for `longest`, and of an owner who has had none in `rank` within that time."""
        helped = self.model.objects.filter(owner=OuterRef("owner"), model=OuterRef("model"), rank=rank)
        late = self.undispatched().shared().filter(created_at__lt=Now() - longest, rank__gt=rank)
        return late.exclude(Exists(helped.filter(turn_at__gt=Now() - longest)))

    def undispatched(self) -> "GenerationQuerySet":
        """Waiting ones that no message has been published for."""
        return self.queued().filter(dispatched_at=None)

    def dispatched(self) -> "GenerationQuerySet":
        """Waiting ones with a message on the way: the window that the broker holds."""
        return self.queued().filter(dispatched_at__gt=datetime(1970, 1, 2, tzinfo=UTC))  # see `positions`

    def at_work(self) -> "GenerationQuerySet":
        """Those at the broker, and those that run."""
        return self.unfinished().filter(Q(status=Status.RUNNING) | Q(dispatched_at__isnull=False))

    def overdue(self) -> "GenerationQuerySet":
        """Dispatched ones that no worker has claimed in time: their message may be lost."""
        return self.queued().filter(redispatch_at__lt=Now())

    def unheard(self, *, since: timedelta, lease: timedelta) -> "GenerationQuerySet":
        """Dispatched for so long, and not made anew soon; what a worker has is held for one `lease` at a time."""
        return self.dispatched().filter(dispatched_at__lt=Now() - since, redispatch_at__gt=Now() + lease)

    def shared(self) -> "GenerationQuerySet":
        """Those that any device may run, in line."""
        # All of them are None there, but PostgreSQL needs it to see that the index has the rows in this order.
        return self.filter(pinned_to=None).order_by("pinned_to_id", "rank", "turn_at", "id")

    def pinned(self) -> "GenerationQuerySet":
        """Those that one particular device is to run."""
        return self.filter(pinned_to__gt=0)  # as a range of its index; SQLite would read all rows for IS NOT NULL

    def running(self) -> "GenerationQuerySet":
        """Those that a worker holds."""
        return self.filter(status=Status.RUNNING)

    def running_of(self, model_id: int) -> int:
        """How many of a model run."""
        return self.running().filter(model=model_id).count()

    def expired(self) -> "GenerationQuerySet":
        """Running ones whose worker has not been heard of within the lease."""
        return self.running().filter(lease_until__lt=Now())

    def past_deadline(self) -> "GenerationQuerySet":
        """Those that should have ended by now and have not; they may have been asked to."""
        return self.filter(finished_at=None, deadline_at__lt=Now()).order_by("deadline_at")

    def late_to_start(self) -> "GenerationQuerySet":
        """Those that should have begun by now and wait still; what was begun and lost its worker is not among them."""
        waits = Q(status=Status.QUEUED, attempt_count=0)
        return self.filter(waits, finished_at=None, start_by__lt=Now()).order_by("start_by")

    def unfinished(self) -> "GenerationQuerySet":
        """Those that wait or run."""
        # Both: SQLite recognizes the partial index by a condition without parameters, and prefers it for the status.
        return self.filter(finished_at=None, status__in=(Status.QUEUED, Status.RUNNING))

    def waiting_count(self) -> int:
        """How many wait."""
        return self.filter(status=Status.QUEUED).order_by().count()

    def past_keeping(self, *, keep: timedelta) -> "GenerationQuerySet":
        """Finished longer ago than results are kept, and not looked after yet; the oldest first."""
        return self.filter(expired_at=None, finished_at__lt=Now() - keep).order_by("finished_at")

    def finished(self) -> "GenerationQuerySet":
        """Those that will not change any more."""
        return self.filter(status__in=FINISHED)

    def in_line(self, wanted: Q) -> "GenerationQuerySet":
        """Waiting ones that `wanted` picks, each with its `position`: one pass over the line, however many they are."""
        order: list[Any] = [F("dispatched_at").asc(nulls_last=True), "rank", "turn_at", "id"]  # as `positions` counts
        place = Window(RowNumber(), partition_by=["model", "pinned_to"], order_by=order)
        # Django counts before it filters only where the condition asks for the count: hence the half that never holds.
        return self.filter(status=Status.QUEUED).annotate(position=place).filter(Q(position=0) | wanted)
