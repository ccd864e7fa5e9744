"""Questions about many generations, by name."""

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import Case, Count, OuterRef, Q, Subquery, Value, When, Window
from django.db.models.functions import Coalesce, Now, RowNumber

from generation.lifecycle import FINISHED, Status

if TYPE_CHECKING:
    from generation.models.generation import Generation


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
        """Waiting ones in the order in which they should run: priority first, then age."""
        return self.filter(status=Status.QUEUED).order_by("-priority", "arrival")

    def undispatched(self) -> "GenerationQuerySet":
        """Waiting ones that no message has been published for."""
        return self.queued().filter(dispatched_at=None)

    def dispatched(self) -> "GenerationQuerySet":
        """Waiting ones with a message on the way: the window that the broker holds."""
        return self.queued().exclude(dispatched_at=None)

    def overdue(self) -> "GenerationQuerySet":
        """Dispatched ones that no worker has claimed in time: their message may be lost."""
        return self.queued().filter(redispatch_at__lt=Now())

    def shared(self) -> "GenerationQuerySet":
        """Those that any device may run."""
        return self.filter(pinned_to=None)

    def pinned(self) -> "GenerationQuerySet":
        """Those that one particular device is to run."""
        return self.exclude(pinned_to=None)

    def running(self) -> "GenerationQuerySet":
        """Those that a worker holds."""
        return self.filter(status=Status.RUNNING)

    def expired(self) -> "GenerationQuerySet":
        """Running ones whose worker has not been heard of within the lease."""
        return self.running().filter(lease_until__lt=Now())

    def past_deadline(self) -> "GenerationQuerySet":
        """Those that should have ended by now and have not; they may have been asked to."""
        return self.filter(finished_at=None, deadline_at__lt=Now()).order_by("deadline_at")

    def finished(self) -> "GenerationQuerySet":
        """Those that will not change any more."""
        return self.filter(status__in=FINISHED)

    def unfinished(self) -> "GenerationQuerySet":
        """Those that wait or run."""
        return self.exclude(status__in=FINISHED)

    def position_of(self, generation: "Generation") -> int | None:
        """1 for the next of its model to run, None if it does not wait."""
        if generation.status != Status.QUEUED:
            return None
        ahead = Q(priority__gt=generation.priority) | Q(priority=generation.priority, arrival__lt=generation.arrival)
        in_line = self.queued().filter(model=generation.model_id, pinned_to=generation.pinned_to_id)
        return in_line.filter(ahead).count() + 1

    def in_line(self, wanted: Q) -> "GenerationQuerySet":
        """Waiting ones that `wanted` picks, each with its `position`: one pass over the line, however many they are."""
        place = Window(RowNumber(), partition_by=["model", "pinned_to"], order_by=["-priority", "arrival"])
        # Django counts before it filters only where the condition asks for the count: hence the half that never holds.
        return self.filter(status=Status.QUEUED).annotate(position=place).filter(Q(position=0) | wanted)

    def with_position(self) -> "GenerationQuerySet":
        """Annotate `position`: 1 for the next of its model to run, None for those that do not wait."""
        is_older = Q(priority=OuterRef("priority"), arrival__lt=OuterRef("arrival"))
        ahead = (
            self.model.objects.queued()
            .shared()
            .filter(model=OuterRef("model"))
            .filter(Q(priority__gt=OuterRef("priority")) | is_older)
            .order_by()
            .values("model")
            .annotate(count=Count("pk"))
            .values("count")
        )
        position = Coalesce(Subquery(ahead, output_field=models.IntegerField()), 0) + Value(1)
        return self.annotate(position=Case(When(status=Status.QUEUED, then=position), default=None))
