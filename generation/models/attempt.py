"""An attempt: one claim of a generation by a worker, and how it ended."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from generation import kill_points
from generation.engines.types import LinkCost
from generation.lifecycle import OUTCOME_CHOICES, Outcome
from generation.models.device import Device

if TYPE_CHECKING:
    from generation.models.generation import Generation


class AttemptQuerySet(models.QuerySet["Attempt"]):
    """Questions about many attempts, and how one begins."""

    def begin(self, generation: "Generation", *, device: Device, process: UUID | None) -> "Attempt":
        """Write down an attempt of a generation that has just been claimed."""
        return self.create(
            generation=generation,
            number=generation.attempt_count,
            dispatch_no=generation.dispatch_no,
            claim_token=generation.claim_token,
            device=device,
            worker=str(device),
            process=process,
            runtime=device.runtime,
            resumed_from_step=generation.resumed_from_step,
        )

    def open(self) -> "AttemptQuerySet":
        """Those that have not ended."""
        return self.filter(outcome=Outcome.RUNNING)

    def lost(self) -> "AttemptQuerySet":
        """Those whose worker was not heard of again."""
        return self.filter(outcome=Outcome.LOST)

    def orphaned(self) -> "AttemptQuerySet":
        """Open ones that no longer hold the claim of their generation."""
        return self.open().exclude(generation__claim_token=F("claim_token"))

    def with_stray_files(self) -> "AttemptQuerySet":
        """Ended without success, so whatever they may have stored is nobody's; not looked after yet."""
        ended_badly = (Outcome.FAILED, Outcome.CANCELLED, Outcome.RELEASED, Outcome.LOST)
        return self.filter(outcome__in=ended_badly, files_removed_at=None)


class Attempt(models.Model):
    """One run of a generation on one device."""

    generation = models.ForeignKey("generation.Generation", on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    dispatch_no = models.PositiveIntegerField()
    claim_token = models.UUIDField(unique=True)
    device = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, related_name="attempts")
    worker = models.CharField(max_length=250, help_text="The device's name at that time, kept if its row goes.")
    process = models.UUIDField(
        null=True, help_text="Drawn by its worker at its start: what dies with it dies together."
    )
    started_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=OUTCOME_CHOICES, default=Outcome.RUNNING)
    resumed_from_step = models.PositiveIntegerField(
        null=True, help_text="The saved step that it went on from; empty if it began at the first one."
    )
    start_note = models.TextField(
        blank=True, default="", db_default="", help_text="Why it did not go on from a step that had been saved."
    )
    step = models.PositiveIntegerField(
        null=True, help_text="Denoise steps done when it ended, with those of earlier attempts that it went on from."
    )
    pipeline_seconds = models.FloatField(null=True, help_text="Time inside the pipeline call.")
    store_seconds = models.FloatField(null=True, help_text="Time to encode the images and put them on storage.")
    runtime = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="The way from the worker to the engine."
    )
    serialise_ms = models.FloatField(null=True, help_text="Time to make bytes of the request and pixels of bytes.")
    transfer_ms = models.FloatField(null=True, help_text="Time that the bytes were on their way.")
    wait_ms = models.FloatField(null=True, help_text="Time before the pipeline began: for a slot, a turn, the model.")
    peak_memory_bytes = models.BigIntegerField(null=True)
    error_code = models.CharField(max_length=50, blank=True)
    error_detail = models.TextField(blank=True)
    files_removed_at = models.DateTimeField(null=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        indexes = [
            models.Index(fields=["outcome", "files_removed_at", "ended_at"], name="attempts_with_stray_files"),
            models.Index(fields=["process", "outcome"], name="attempts_of_a_process"),
        ]
        constraints = [models.UniqueConstraint(fields=["generation", "number"], name="attempts_are_numbered")]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.generation_id}"

    @property
    def length(self) -> timedelta:
        """From its start to its end, or nothing while it has not ended."""
        return self.ended_at - self.started_at if self.ended_at else timedelta()

    def had_company(self) -> bool:
        """Whether its process held others at its end: those that still count as running, or were lost with it."""
        if self.process is None:
            return False
        others = Attempt.objects.filter(process=self.process).exclude(pk=self.pk)
        ended_with_it = Q(outcome=Outcome.LOST, ended_at__gte=self.started_at)
        return others.filter(Q(outcome=Outcome.RUNNING) | ended_with_it).exists()

    def has_succeeded(self) -> bool:
        """Whether the database has it as the one that succeeded, whatever this instance shows."""
        return Attempt.objects.filter(pk=self.pk, outcome=Outcome.SUCCEEDED).exists()

    def note_start(self, note: str) -> None:
        """Note that it begins at the first step, and why."""
        self.resumed_from_step, self.start_note = None, note
        self.save(update_fields=["resumed_from_step", "start_note"])

    def note_cost(self, cost: LinkCost | None) -> None:
        """Note what the way to the engine took, if that is known; `close` stores it."""
        if cost is not None:
            self.serialise_ms, self.transfer_ms, self.wait_ms = cost.serialise_ms, cost.transfer_ms, cost.wait_ms

    def close(self, outcome: Outcome, *, step: int | None = None, code: str = "", detail: str = "") -> None:
        """Note how it ended; the timings and the peak memory that were set on the instance are kept too."""
        kill_points.reach(f"close-{outcome}", self.generation_id)  # in the transaction of the status
        self.outcome = outcome
        self.step = step
        self.error_code = code
        self.error_detail = detail
        self.ended_at = Now()
        self.save(
            update_fields=[
                "outcome", "step", "error_code", "error_detail", "ended_at",
                "pipeline_seconds", "store_seconds", "peak_memory_bytes", "serialise_ms", "transfer_ms", "wait_ms",
            ]
        )  # fmt: skip
