"""A device: one GPU (or CPU) and the worker that drives it."""

import logging
from collections import Counter
from datetime import datetime, timedelta
from math import prod
from uuid import UUID

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from generation.engines.types import places
from generation.lifecycle import Outcome
from generation.models.conditional import update_if
from generation.models.diffusion_model import DiffusionModel, DiffusionModelQuerySet

logger = logging.getLogger(__name__)

SILENT_AFTER = timedelta(seconds=15)
DEATHS_IN_A_ROW = 3
RECENT_ATTEMPTS = 200
FIRST_TEST_AFTER = timedelta(minutes=1)
LONGEST_BETWEEN_TESTS = timedelta(hours=1)


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

    def idle_slots_for(self, model: DiffusionModel) -> int:
        """How many more of its usual size than they run; none of a device that runs one alone."""
        alone = self.model.objects.filter(attempts__outcome=Outcome.RUNNING, attempts__generation__runs_alone=True)
        devices = self.alive().serving(model).exclude(pk__in=alone.values("pk"))
        by_pk = {device.pk: device for device in devices}
        size = ("model", "num_images", "width", "height")
        running = self.model.objects.filter(pk__in=by_pk, attempts__outcome=Outcome.RUNNING)
        busy = Counter[int]()
        for pk, of, *factors in running.values_list("pk", *(f"attempts__generation__{name}" for name in size)):
            busy[pk] += by_pk[pk].places_of(model, prod(factors)) if of == model.pk else 1
        return sum(max(0, device.at_once(model) - busy[pk]) for pk, device in by_pk.items())


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
    quarantine_note = models.TextField(
        blank=True, default="", db_default="", help_text="What came of its latest test, or what ended its quarantine."
    )
    self_tests = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="How often it has tested itself since it was well: each time it waits longer.",
    )
    self_tested_at = models.DateTimeField(null=True, help_text="When it began the latest of these in this quarantine.")
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

    def places_of(self, model: DiffusionModel, pixels: int) -> int:
        """How many of these one takes whose pictures have so many pixels in all."""
        usual = self.facts.get(model.slug, {}).get("pixels", 0)
        return places(pixels, usual=usual, at_once=self.at_once(model))

    def quarantine_if_sick(self) -> bool:
        """Give it nothing new if its last workers died one after another; True if it is in quarantine now.

        A device is not to blame where the same generation was there each time.
        """
        deaths = self.last_deaths()
        if len(deaths) < DEATHS_IN_A_ROW or set.intersection(*deaths):
            return False
        reason = f"Its last {len(deaths)} workers died while they ran generations, each time others."
        healthy = Device.objects.filter(pk=self.pk, quarantined_at=None)
        # One that relapses waits longer than before: else it would cost three attempts every other minute.
        relapse = When(trusted_from__gt=Now() - LONGEST_BETWEEN_TESTS, then=F("self_tests"))
        tests = {"self_tests": Case(relapse, default=Value(0)), "self_tested_at": None, "quarantine_note": ""}
        if healthy.update(quarantined_at=Now(), quarantine_reason=reason, **tests):
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

    def trust(self, *, note: str, tested_at: datetime | None = None) -> bool:
        """End its quarantine; False if it was in none, or in none yet when the test `tested_at` began."""
        held = Q(quarantined_at__isnull=False)
        if tested_at is not None:
            held &= Q(quarantined_at__lt=tested_at)
        return self._release(held, note=note, self_tests=0)

    @property
    def next_test_at(self) -> datetime | None:
        """From when on it may test itself; None outside of quarantine."""
        since = self.self_tested_at or self.quarantined_at
        return since + self._between_tests if self.quarantined_at is not None and since is not None else None

    def begin_self_test(self) -> bool:
        """Take the next test of its own; False while there is no need for one, or not yet.

        It is counted before it begins: one that kills its worker is followed by a longer wait too.
        """
        number = self.self_tests + 1
        due = Q(self_tested_at=None, quarantined_at__lt=Now() - self._between_tests)
        due |= Q(self_tested_at__lt=Now() - self._between_tests)
        in_need = Q(quarantined_at__isnull=False, is_drained=False, self_tests=self.self_tests)
        note = f"Its test picture {number} was begun, and its worker not heard of again."
        return update_if(self, in_need & due, self_tests=number, self_tested_at=Now(), quarantine_note=note)

    def note_self_test(self, note: str) -> bool:
        """Write down what has come of its latest test."""
        return update_if(self, self._tested, quarantine_note=note)

    def pass_self_test(self) -> bool:
        """End its quarantine, for its own test has succeeded; False if that has ended otherwise."""
        return self._release(self._tested, note=f"Its test picture {self.self_tests} succeeded, made by itself.")

    @property
    def _tested(self) -> Q:
        """It is in quarantine still, and this was its latest test."""
        return Q(quarantined_at__isnull=False, self_tests=self.self_tests)

    @property
    def _between_tests(self) -> timedelta:
        """How long it waits until it tests itself: twice as long after each that came to nothing."""
        return min(FIRST_TEST_AFTER * 2 ** min(self.self_tests, 10), LONGEST_BETWEEN_TESTS)

    def _release(self, held: Q, *, note: str, **changes: int) -> bool:
        """What ends a quarantine, if `held` is true of it."""
        well = {"quarantined_at": None, "quarantine_reason": "", "trusted_from": Now()}
        is_released = update_if(self, held, **well, quarantine_note=note, **changes)
        if is_released:
            logger.warning("%s has left quarantine: %s", self, note)
        return is_released

    def models_to_test_with(self) -> DiffusionModelQuerySet:
        """The models that it may draw a test picture with, the first of them best."""
        return self.serves.enabled() if self.serves.exists() else DiffusionModel.objects.enabled()

    def models_to_serve(self) -> DiffusionModelQuerySet:
        """The models whose generations this device takes: disabled ones too, for what was accepted before."""
        if self.is_drained or self.quarantined_at is not None:
            return DiffusionModel.objects.none()
        return self.serves.all() if self.serves.exists() else DiffusionModel.objects.all()
