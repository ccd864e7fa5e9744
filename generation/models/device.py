"""A device: one GPU (or CPU) and the worker that drives it."""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from generation.lifecycle import Outcome
from generation.models.diffusion_model import DiffusionModel, DiffusionModelQuerySet

logger = logging.getLogger(__name__)

SILENT_AFTER = timedelta(seconds=15)
DEATHS_IN_A_ROW = 3
RECENT_ATTEMPTS = 200


class DeviceQuerySet(models.QuerySet["Device"]):
    """Questions about many devices."""

    def alive(self) -> "DeviceQuerySet":
        """Those whose worker has been heard of lately."""
        return self.filter(heartbeat_at__gt=Now() - SILENT_AFTER)

    def serving(self, model: DiffusionModel) -> "DeviceQuerySet":
        """Those that take generations of `model`: fit for use, and assigned to it or to everything."""
        return self.filter(Q(serves=model) | Q(serves=None), is_drained=False, quarantined_at=None).distinct()

    def slots_for(self, model: DiffusionModel) -> int:
        """How many generations of `model` all living devices take at once."""
        return sum(device.at_once(model) for device in self.alive().serving(model))


class Device(models.Model):
    """One GPU or CPU of one host. Workers report into it; operators say what it should serve."""

    host = models.CharField(max_length=200)
    label = models.CharField(max_length=20, help_text="gpu0, gpu1, ... or cpu0, cpu1, ...")
    kind = models.CharField(max_length=10, choices=[("cuda", "cuda"), ("cpu", "cpu")])
    index = models.PositiveIntegerField()
    name = models.CharField(max_length=200, help_text="What the hardware calls itself.")
    memory_bytes = models.BigIntegerField()
    slots = models.PositiveIntegerField(default=1, help_text="Generations that its worker takes at once.")
    runtime = models.CharField(
        max_length=20, default="native", db_default="native", help_text="The way from its worker to its engine."
    )
    started_at = models.DateTimeField(null=True, help_text="When its worker started last.")
    heartbeat_at = models.DateTimeField(null=True, help_text="When its worker was heard of last.")
    loaded = models.JSONField(default=list, help_text="Slugs of the models that it holds in memory.")
    facts = models.JSONField(default=dict, help_text="What it has found out about each of these models.")
    serves = models.ManyToManyField(
        DiffusionModel, blank=True, help_text="Models that it should serve; none chosen means all of them."
    )
    is_drained = models.BooleanField(default=False, help_text="Takes no new generations while this is set.")
    quarantined_at = models.DateTimeField(null=True, help_text="Since when it takes none, for it loses them.")
    quarantine_reason = models.TextField(blank=True)
    trusted_from = models.DateTimeField(
        null=True, help_text="When it left quarantine; what it lost before is forgiven."
    )

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["host", "kind", "index"]
        constraints = [models.UniqueConstraint(fields=["host", "label"], name="one_row_per_device")]

    def __str__(self) -> str:
        return f"{self.label}@{self.host}"

    def at_once(self, model: DiffusionModel) -> int:
        """How many generations of `model` it takes at once: all its slots, until it has found out what pays off."""
        return min(self.slots, self.facts.get(model.slug, {}).get("at_once", self.slots))

    def quarantine_if_sick(self) -> bool:
        """Give it nothing new if its last workers died one after another; True if it is in quarantine now.

        A device is not to blame where the same generation was there each time.
        """
        deaths = self.last_deaths()
        if len(deaths) < DEATHS_IN_A_ROW or set.intersection(*deaths):
            return False
        reason = f"Its last {len(deaths)} workers died while they ran generations, each time others."
        healthy = Device.objects.filter(pk=self.pk, quarantined_at=None)
        if healthy.update(quarantined_at=Now(), quarantine_reason=reason):
            logger.error("%s is in quarantine: %s", self, reason)
        return True

    def last_deaths(self) -> list[set[UUID]]:
        """The generations that each of its last processes took along, since one of them has ended otherwise."""
        deaths: dict[UUID, set[UUID]] = {}
        attempts = self.attempts.exclude(outcome__in=(Outcome.RUNNING, Outcome.RELEASED)).order_by("-id")
        if self.trusted_from is not None:
            attempts = attempts.filter(started_at__gt=self.trusted_from)
        for attempt in attempts[:RECENT_ATTEMPTS]:
            if attempt.outcome != Outcome.LOST:
                break
            deaths.setdefault(attempt.process or attempt.claim_token, set()).add(attempt.generation_id)
        return list(deaths.values())

    def trust(self, *, tested_at: datetime | None = None) -> bool:
        """End its quarantine; False if it was in none, or in none yet when the test `tested_at` began."""
        held = Device.objects.filter(pk=self.pk, quarantined_at__isnull=False)
        if tested_at is not None:
            held = held.filter(quarantined_at__lt=tested_at)
        return bool(held.update(quarantined_at=None, quarantine_reason="", trusted_from=Now()))

    def models_to_serve(self) -> DiffusionModelQuerySet:
        """The models whose generations this device takes: disabled ones too, for what was accepted before."""
        if self.is_drained or self.quarantined_at is not None:
            return DiffusionModel.objects.none()
        return self.serves.all() if self.serves.exists() else DiffusionModel.objects.all()
