"""A generation: what a user asked for, where it is, and the only verbs that move it on."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from generation.conf import configuration
from generation.lifecycle import (
    CANCEL,
    CANCEL_REASON_CHOICES,
    CLAIM,
    FAIL,
    FINISHED,
    RELEASE,
    SEEN_BY_CHOICES,
    STATUS_CHOICES,
    SUCCEED,
    WITHDRAW,
    CancelReason,
    Outcome,
    SeenBy,
    Status,
    Transition,
)
from generation.models import receipts, webhook
from generation.models.attempt import Attempt
from generation.models.conditional import update_if
from generation.models.device import Device
from generation.models.indexes import CONSTRAINTS, INDEXES
from generation.models.queries import GenerationQuerySet
from generation.models.request import Request
from generation.quotas import Quota

if TYPE_CHECKING:
    from generation.models.image import Image

MAX_SEED = 2**32 - 1


class Generation(Request):
    """One request for pictures. Its status moves only by the verbs below, each one conditional UPDATE."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    arrival = models.UUIDField(default=uuid7, editable=False, help_text="Its place among all: `id` may be a client's.")

    rank = models.SmallIntegerField(default=0, help_text="Lower goes first: -priority, until it has waited too long.")
    turn_at = models.DateTimeField(db_default=Now(), help_text="Its place among those of its rank; `line` sets it.")

    status = models.CharField(max_length=10, choices=STATUS_CHOICES, default=Status.QUEUED)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=10, choices=CANCEL_REASON_CHOICES, blank=True)
    cancel_seen_by = models.CharField(max_length=10, choices=SEEN_BY_CHOICES, blank=True)
    device_freed_at = models.DateTimeField(null=True, help_text="When a cancelled one had left its device.")
    expired_at = models.DateTimeField(null=True, help_text="When its images were removed, for they were old.")
    step = models.PositiveIntegerField(default=0)
    saved_step = models.PositiveIntegerField(default=0, db_default=0, help_text="Where the next attempt can go on.")
    resumed_from_step = models.PositiveIntegerField(null=True, help_text="Where the latest attempt went on.")
    total_steps = models.PositiveIntegerField()
    error_code = models.CharField(max_length=50, blank=True)
    error_detail = models.TextField(blank=True)

    dispatch_no = models.PositiveIntegerField(default=0)
    dispatched_at = models.DateTimeField(null=True)
    redispatch_at = models.DateTimeField(null=True)
    attempt_count = models.PositiveIntegerField(default=0)
    load_count = models.PositiveIntegerField(
        default=0, help_text="Loads of its model begun for it since the last claim."
    )
    runs_alone = models.BooleanField(default=False, help_text="Its worker died while it held others too.")
    claim_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    quotas: tuple[Quota, ...] = ()  # what `operations.submit` left of its owner's limits
    position: int | None  # set by who asks for it: `set_positions`
    is_replay = False  # set by `submit` where an earlier request with the same key or id has made it

    objects = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ["-arrival"]
        indexes = INDEXES
        constraints = CONSTRAINTS

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def is_finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in FINISHED

    @property
    def cancelled_at(self) -> datetime | None:
        """When it was cancelled, if that is how it ended."""
        return self.finished_at if self.status == Status.CANCELLED else None

    @property
    def task_id(self) -> str:
        """The Celery task id of the latest dispatch; a fresh one each time, for workers remember revoked ids."""
        return f"{self.pk}:{self.dispatch_no}"

    @property
    def fraction(self) -> float:
        """The share of the denoise steps that are done, 0.0 to 1.0."""
        return round(self.step / self.total_steps, 4) if self.total_steps else 0.0

    # --- The verbs ----------------------------------------------------------------------------------------

    def mark_dispatched(self) -> bool:
        """Take the next dispatch number before publishing; False if somebody else did or it no longer waits."""
        is_on_the_way = self.dispatched_at is not None and self.redispatch_at is not None
        last = self.redispatch_at - self.dispatched_at if is_on_the_way else None  # type: ignore[operator]
        return self._update(
            Q(status=Status.QUEUED, dispatch_no=self.dispatch_no),
            dispatch_no=self.dispatch_no + 1,
            dispatched_at=Now(),
            redispatch_at=Now() + configuration().back_off(last),
        )

    def unmark_dispatched(self) -> bool:
        """Note that the latest dispatch will reach no worker, so that it is made anew at once."""
        return self._update(
            Q(status=Status.QUEUED, dispatch_no=self.dispatch_no), dispatched_at=None, redispatch_at=None
        )

    def hurry(self, rank: int) -> bool:
        """Put it into another rank, behind those that are there already; False if it no longer waits."""
        return self._update(Q(status=Status.QUEUED, dispatched_at=None), rank=rank, turn_at=Now())

    def note_load(self) -> None:
        """Count that a worker begins to load the model for it: one that dies of that can never claim it."""
        self._update(Q(status=Status.QUEUED), load_count=F("load_count") + 1)

    def claim(
        self, *, device: Device, dispatch_no: int, process: UUID | None = None, from_step: int = 0
    ) -> Attempt | None:
        """Start an attempt on `device`; None if the dispatch is stale, cancelled, or meant for another device."""
        token = uuid4()
        with transaction.atomic():
            is_mine = self._move(
                CLAIM,
                Q(dispatch_no=dispatch_no) & (Q(pinned_to=None) | Q(pinned_to=device)),
                claim_token=token,
                lease_until=Now() + configuration().lease,
                started_at=Now(),
                step=from_step,
                saved_step=from_step,
                resumed_from_step=from_step or None,
                attempt_count=F("attempt_count") + 1,
                load_count=0,
                redispatch_at=None,
            )
            if not is_mine:
                return None
            return Attempt.objects.begin(self, device=device, process=process)

    def succeed(self, attempt: Attempt, *, images: "Iterable[Image]") -> bool:
        """End with `images`; False (and nothing stored) if the claim is lost or a cancel came first."""
        with transaction.atomic():
            is_done = self._finish(attempt, SUCCEED, Q(cancel_requested_at=None), step=F("total_steps"))
            if is_done:
                for image in images:
                    image.pk = None  # a try that was rolled back has left a number there
                    image.save(force_insert=True)
                attempt.close(Outcome.SUCCEEDED, step=self.step)
            return is_done

    def fail(self, attempt: Attempt, *, code: str, detail: str, cause: str = "", step: int | None = None) -> bool:
        """End with an error, `detail` for the owner and `cause` for operators; False if the claim is lost."""
        with transaction.atomic():
            is_done = self._finish(attempt, FAIL, Q(), error_code=code, error_detail=detail)
            if is_done:
                attempt.close(Outcome.FAILED, step=step, code=code, detail=cause or detail)
            return is_done

    def cancel(
        self,
        attempt: Attempt,
        *,
        seen_by: SeenBy,
        reason: CancelReason = CancelReason.REQUEST,
        step: int | None = None,
        freed_seconds_ago: float = 0.0,
    ) -> bool:
        """End for `reason`, or for the one that was noted before, with the receipt; False if the claim is lost."""
        receipt = receipts.stopped(reason=reason, seen_by=seen_by, freed_seconds_ago=freed_seconds_ago)
        with transaction.atomic():
            is_done = self._finish(attempt, CANCEL, Q(), **receipt)
            if is_done:
                attempt.close(Outcome.CANCELLED, step=step)
            return is_done

    def begin_anew(self, attempt: Attempt, *, note: str) -> bool:
        """Note why `attempt` begins at the first step although a state was saved; False if the claim is lost."""
        attempt.note_start(note)
        return self._update(Q(claim_token=attempt.claim_token), step=0, saved_step=0, resumed_from_step=None)

    def release(
        self, attempt: Attempt, *, step: int | None = None, saved_step: int = 0, total_steps: int | None = None
    ) -> bool:
        """Go back to the queue because the worker stops; False if the claim is lost or a cancel came first."""
        known = {"step": saved_step, "saved_step": saved_step, "total_steps": total_steps or F("total_steps")}
        with transaction.atomic():
            is_back = self._requeue(attempt, Q(cancel_requested_at=None), **known)
            if is_back:
                attempt.close(Outcome.RELEASED, step=step)
            return is_back

    def rescue(self, attempt: Attempt) -> bool:
        """Take it from a worker that was not heard of within the lease; False if it was, after all."""
        detail = "The worker was not heard of within the lease: it died, hung, or lost the database."
        return self._lose(attempt, Q(lease_until__lt=Now()), detail=detail)

    def lose(self, attempt: Attempt, *, detail: str) -> bool:
        """Take it from a worker that knows that its device has failed; False if the claim is lost already."""
        return self._lose(attempt, Q(), detail=detail)

    def withdraw(self, *, reason: CancelReason = CancelReason.REQUEST) -> bool:
        """Cancel it while it waits; False if it does not wait (any more)."""
        return self._move(WITHDRAW, Q(), **receipts.withdrawn(reason))

    def request_cancel(self, *, reason: CancelReason = CancelReason.REQUEST) -> bool:
        """Ask its worker to stop; False if it does not run. A second request changes nothing and is True."""
        runs_on = Q(status=Status.RUNNING, cancel_requested_at=None)
        if not self._update(runs_on, cancel_reason=reason, cancel_requested_at=Now()):
            self.refresh_from_db()
        return self.status == Status.RUNNING

    def expire(self) -> bool:
        """Forget the images of a finished one, whose files are gone; False if that was done before."""
        with transaction.atomic():
            is_done = self._update(Q(status__in=FINISHED, expired_at=None), expired_at=Now())
            if is_done:
                self.images.all().delete()
            return is_done

    def _lose(self, attempt: Attempt, guard: Q, *, detail: str) -> bool:
        """Close `attempt` as lost: cancelled if that was asked for, failed if it was the last, else queued again.

        One that died in company may be innocent: it is never the last, and then runs alone, where only the guilty die.
        """
        with transaction.atomic():
            had_company = attempt.had_company()
            losses = self.attempts.lost().count() + 1
            if self.cancel_requested_at is not None:
                has_moved = self._finish(attempt, CANCEL, guard, cancel_seen_by=SeenBy.LOSS)
            elif losses >= configuration().max_attempts and not had_company:
                sentence = f"{losses} workers were lost while they ran it, so it is not tried again."
                has_moved = self._finish(attempt, FAIL, guard, error_code="worker_lost", error_detail=sentence)
            else:
                alone = {"runs_alone": True} if had_company else {}
                has_moved = self._requeue(attempt, guard & Q(cancel_requested_at=None), step=F("saved_step"), **alone)
            if has_moved:
                attempt.close(Outcome.LOST, detail=detail)
                if attempt.device is not None:
                    attempt.device.quarantine_if_sick()
            return has_moved

    def _requeue(self, attempt: Attempt, guard: Q, **changes: Any) -> bool:
        """Move back to the queue if `attempt` still holds the claim."""
        mine, unsent = guard & Q(claim_token=attempt.claim_token), {"dispatched_at": None, "redispatch_at": None}
        return self._move(RELEASE, mine, claim_token=None, lease_until=None, **unsent, **changes)

    def _finish(self, attempt: Attempt, transition: Transition, guard: Q, **changes: Any) -> bool:
        """Move to a final status if `attempt` still holds the claim."""
        return self._move(
            transition,
            guard & Q(claim_token=attempt.claim_token),
            claim_token=None,
            lease_until=None,
            finished_at=Now(),
            **changes,
        )

    def _move(self, transition: Transition, guard: Q, **changes: Any) -> bool:
        """The one place where a status changes: an UPDATE that takes effect only from the transition's source."""
        guard &= Q(status=transition.source)
        if not self.webhook_url:
            return self._update(guard, status=transition.target, **changes)
        with transaction.atomic():  # what is to be told of it is stored with it, or not at all
            has_moved = self._update(guard, status=transition.target, **changes)
            if has_moved:
                webhook.note(self, transition)
            return has_moved

    def _update(self, guard: Q, **changes: Any) -> bool:
        """Change this row if `guard` holds for it at that moment."""
        return update_if(self, guard, **changes)
