"""A batch: generations that were submitted together, all or none, and are looked at as one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from generation.lifecycle import FINISHED, Status


@dataclass(frozen=True, slots=True)
class Summary:
    """How far the generations of a batch are; deleted ones count no more."""

    counts: dict[Status, int]
    step: int
    total_steps: int
    last_finished_at: datetime | None

    @property
    def status(self) -> Status:
        """The status of all of them together.

        Queued until the first one starts, running until the last one ends; then failed if any has failed, else
        cancelled if any was cancelled, else succeeded.
        """
        if self.is_finished:
            ends = (Status.FAILED, Status.CANCELLED)
            return next((end for end in ends if self.counts[end]), Status.SUCCEEDED)
        has_begun = any(count for status, count in self.counts.items() if status != Status.QUEUED)
        return Status.RUNNING if has_begun else Status.QUEUED

    @property
    def is_finished(self) -> bool:
        """Whether none of them will change any more."""
        return not any(count for status, count in self.counts.items() if status not in FINISHED)

    @property
    def finished_at(self) -> datetime | None:
        """When the last one ended; None while one waits or runs."""
        return self.last_finished_at if self.is_finished else None

    @property
    def fraction(self) -> float:
        """The share of all their denoise steps that are done, 0.0 to 1.0."""
        return round(self.step / self.total_steps, 4) if self.total_steps else 0.0


class BatchQuerySet(models.QuerySet["Batch"]):
    """Questions about many batches."""

    def owned_by(self, user: AbstractBaseUser) -> "BatchQuerySet":
        """The user's own."""
        return self.filter(owner_id=user.pk)

    def with_key(self, idempotency_key: str) -> "BatchQuerySet":
        """The one that was submitted under that key, among those of one owner."""
        return self.exclude(idempotency_key="").filter(idempotency_key=idempotency_key).order_by()

    def with_summary(self) -> "BatchQuerySet":
        """Annotate what `Batch.summary` is made of."""
        counts = {
            f"{status.name.lower()}_count": Count("generations", filter=Q(generations__status=status))
            for status in Status
        }
        return self.annotate(
            step=Sum("generations__step", default=0),
            total_steps=Sum("generations__total_steps", default=0),
            last_finished_at=Max("generations__finished_at"),
            **counts,
        )


class Batch(models.Model):
    """Up to a hundred requests that were accepted together."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="batches")
    size = models.PositiveSmallIntegerField(help_text="How many generations it was submitted with.")
    created_at = models.DateTimeField(db_default=Now())
    idempotency_key = models.CharField(max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64, help_text="The SHA-256 of what was asked for.")

    is_replay = False  # set by `submit_batch` where an earlier request with the same key has made it

    objects = BatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "batches"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="batches_of_an_owner"),
            models.Index(fields=["created_at"], name="batches_with_a_key", condition=~Q(idempotency_key="")),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"], condition=~Q(idempotency_key=""), name="batches_once_per_key"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def summary(self) -> Summary:
        """How far it is, as `with_summary` has read it."""
        row: Any = self
        return Summary(
            counts={status: getattr(row, f"{status.name.lower()}_count") for status in Status},
            step=row.step,
            total_steps=row.total_steps,
            last_finished_at=row.last_finished_at,
        )
