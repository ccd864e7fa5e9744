"""A watch over one running generation: how far it is, and why it should stop.

Stop
├── CancelRequested   somebody cancelled it
├── DeadlinePassed    it has not ended in the time that its owner gave it
├── ClaimLost         the lease ran out and another worker may have it
└── Draining          this worker is about to exit
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from celery.worker import state as celery_state

from generation import kill_points
from generation.engines.types import Progress
from generation.events.progress import ProgressReport
from generation.lifecycle import SeenBy

if TYPE_CHECKING:
    from generation.models import Generation
    from generation.saving import Saving

TELL_SECONDS = 5.0


class Stop(Exception):
    """Raised between two denoise steps; it leaves the pipeline through its own callback."""


class CancelRequested(Stop):
    """Somebody cancelled the generation; `seen_by` says how that was noticed."""

    def __init__(self, seen_by: SeenBy) -> None:
        super().__init__(seen_by)
        self.seen_by = seen_by


class DeadlinePassed(Stop):
    """The owner wants it only if it ends in time, and it has not."""


class ClaimLost(Stop):
    """The claim is no longer ours: nothing that this run does can count."""


class Draining(Stop):
    """The worker shuts down and gives back what it has not finished."""


@dataclass(slots=True)
class Watch:
    """Written by the heartbeat's thread (the flags) and by the run's own (the progress).

    `deadline` and `told_at` are on `time.monotonic`'s clock, in seconds. `webhook_for` is the generation's id if
    its owner wants to be told of its progress.
    """

    claim_token: UUID
    task_id: str
    total: int
    report: ProgressReport
    saving: "Saving"
    on_drawn: Callable[[], None] = lambda: None
    step: int = 0
    is_cancel_requested: bool = False
    is_lost: bool = False
    is_draining: bool = False
    deadline: float | None = None
    webhook_for: UUID | None = None
    told_at: float = float("-inf")
    told_step: int = 0
    stepped_at: float = field(default_factory=time.monotonic)
    left_at: float | None = None

    def on_step(self, progress: Progress) -> None:
        """Note the progress, then stop here if there is a reason to."""
        self.step, self.total = progress.step, progress.total
        self.stepped_at = time.monotonic()
        kill_points.reach(f"step-{self.step}", self.task_id.partition(":")[0])
        try:
            self.check()
        except Draining:
            self.saving.hand_over(progress)
            raise
        self.saving.on_step(progress)
        self.report.on_step(progress)
        if self.is_drawn:
            self.on_drawn()

    def has_news(self, *, now: float) -> bool:
        """Whether there is progress that the owner wants to be told of, and the last report is long enough ago."""
        is_time = self.webhook_for is not None and now - self.told_at >= TELL_SECONDS
        return is_time and self.told_step < self.step < self.total

    @property
    def is_drawn(self) -> bool:
        """Whether nothing is left but to decode and store it, which takes no longer than to hand it over."""
        return self.step >= self.total or self.left_at is not None

    def begin_anew(self) -> None:
        """No step is done yet, after all."""
        self.step = 0
        self.saving.begin_anew()

    def leave(self) -> None:
        """Note that the run has left the pipeline: its place on the device is free."""
        self.left_at = time.monotonic()
        self.report.end()

    def lose(self) -> None:
        """Note that the claim is no longer ours: another run may tell of the generation now."""
        self.is_lost = True
        self.report.end()

    def seconds_since_left(self) -> float:
        """How long ago the run left the pipeline; 0.0 if it never was in it."""
        return 0.0 if self.left_at is None else time.monotonic() - self.left_at

    def seconds_without_step(self) -> float:
        """How long ago the run began or made its latest step."""
        return time.monotonic() - self.stepped_at

    def check(self) -> None:
        """Raise the reason to stop, if there is one."""
        if self.is_lost:
            raise ClaimLost
        # Celery's revoke reaches this set within milliseconds; the flag, read at each beat, is its safety net.
        if self.task_id in celery_state.revoked:
            raise CancelRequested(SeenBy.REVOKE)
        if self.is_cancel_requested:
            raise CancelRequested(SeenBy.FLAG)
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlinePassed
        if self.is_draining and not self.is_drawn:
            raise Draining


def deadline_of(generation: "Generation", *, now: float) -> float | None:
    """When a generation that was claimed `now` has to end: the time left is counted on the database's clock."""
    if generation.deadline_at is None or generation.started_at is None:
        return None
    return now + (generation.deadline_at - generation.started_at).total_seconds()
