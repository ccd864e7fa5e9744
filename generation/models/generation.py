"""A generation: what a user asked for, where it is, and the only verbs that move it on."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from uuid_utils.compat import uuid7

from generation.conf import configuration
from generation.lifecycle import (
    CANCEL,
    CANCEL_REASON_CHOICES,
    CLAIM,
    FAIL,
    FINISHED,
    RELEASE,
    STATUS_CHOICES,
    SUCCEED,
    WITHDRAW,
    CancelReason,
    Outcome,
    Status,
    Transition,
)
from generation.models import webhook
from generation.models.attempt import Attempt
from generation.models.batch import Batch
from generation.models.device import Device
from generation.models.diffusion_model import DiffusionModel
from generation.models.indexes import CONSTRAINTS, INDEXES
from generation.models.queries import GenerationQuerySet
from generation.quotas import Quota

if TYPE_CHECKING:
    from generation.models.image import Image

MAX_SEED = 2**32 - 1
MAX_BACK_OFF = 6  # doublings of the time until a message is published again


class Generation(models.Model):
    """One request for pictures. Its status moves only by the verbs below, each one conditional UPDATE."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    arrival = models.UUIDField(default=uuid7, editable=False, help_text="Its place among all: `id` may be a client's.")
    batch = models.ForeignKey(Batch, on_delete=models.SET_NULL, null=True, blank=True, related_name="generations")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="generations")
    model = models.ForeignKey(DiffusionModel, on_delete=models.PROTECT, related_name="generations")

    prompt = models.TextField()
    negative_prompt = models.TextField(blank=True)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    num_inference_steps = models.PositiveIntegerField()
    guidance_scale = models.FloatField()
    seed = models.BigIntegerField(help_text="Image i is drawn from seed + i.")
    num_images = models.PositiveSmallIntegerField(default=1)
    scheduler = models.CharField(max_length=40, blank=True, help_text="Empty: the model's own.")
    strength = models.FloatField(null=True, help_text="The share of the steps that redraw the image.")
    has_inputs = models.BooleanField(default=False, help_text="Whether it begins with pictures: `inputs`.")
    is_reproducible = models.BooleanField(default=False, help_text="The same bits each time on a kind of device.")
    image_format = models.CharField(max_length=10, default="png")
    priority = models.SmallIntegerField(default=0)
    api_key = models.CharField(
        "API key", max_length=25, blank=True, help_text="The beginning of the key it was asked for with, if any."
    )
    pinned_to = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    status = models.CharField(max_length=10, choices=STATUS_CHOICES, default=Status.QUEUED)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField()
    error_code = models.CharField(max_length=50, blank=True)
    error_detail = models.TextField(blank=True)

    idempotency_key = models.CharField(max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="The SHA-256 of what was asked for.")
    webhook_url = models.CharField(max_length=2000, blank=True)
    webhook_events = models.JSONField(default=list)
    webhook_words = models.CharField(max_length=300, blank=True, help_text="A dialect and our address in it; or ours.")
    deadline_at = models.DateTimeField(null=True, help_text="Cancelled if it has not ended by then.")
    cancel_reason = models.CharField(max_length=10, choices=CANCEL_REASON_CHOICES, blank=True)

    dispatch_no = models.PositiveIntegerField(default=0)
    dispatched_at = models.DateTimeField(null=True)
    redispatch_at = models.DateTimeField(null=True)
    attempt_count = models.PositiveIntegerField(default=0)
    load_count = models.PositiveIntegerField(
        default=0, help_text="Loads of its model begun for it since the last claim."
    )
    claim_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    quotas: tuple[Quota, ...] = ()  # what `operations.submit` left of its owner's limits
    position: int | None  # set by who asks for it: `with_position` for many, `position_of` for one
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
    def pixel_steps(self) -> int:
        """What it costs to draw, about: pixels × denoise steps of all images."""
        return self.width * self.height * self.num_inference_steps * self.num_images

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
        back_off = configuration().redispatch * 2 ** min(self.dispatch_no, MAX_BACK_OFF)
        return self._update(
            Q(status=Status.QUEUED, dispatch_no=self.dispatch_no),
            dispatch_no=self.dispatch_no + 1,
            dispatched_at=Now(),
            redispatch_at=Now() + back_off,
        )

    def unmark_dispatched(self) -> bool:
        """Note that the latest dispatch will reach no worker, so that it is made anew at once."""
        return self._update(
            Q(status=Status.QUEUED, dispatch_no=self.dispatch_no), dispatched_at=None, redispatch_at=None
        )

    def note_load(self) -> None:
        """Count that a worker begins to load the model for it: one that dies of that can never claim it."""
        self._update(Q(status=Status.QUEUED), load_count=F("load_count") + 1)

    def claim(self, *, device: Device, dispatch_no: int) -> Attempt | None:
        """Start an attempt on `device`; None if the dispatch is stale, cancelled, or meant for another device."""
        token = uuid4()
        with transaction.atomic():
            is_mine = self._move(
                CLAIM,
                Q(dispatch_no=dispatch_no) & (Q(pinned_to=None) | Q(pinned_to=device)),
                claim_token=token,
                lease_until=Now() + configuration().lease,
                started_at=Now(),
                step=0,
                attempt_count=F("attempt_count") + 1,
                load_count=0,
            )
            if not is_mine:
                return None
            return Attempt.objects.create(
                generation=self,
                number=self.attempt_count,
                dispatch_no=dispatch_no,
                claim_token=token,
                device=device,
                worker=str(device),
            )

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

    def cancel(self, attempt: Attempt, *, step: int | None = None, reason: CancelReason = CancelReason.REQUEST) -> bool:
        """End for `reason`, or for the one that was noted before; False if the claim is lost."""
        noted = models.Case(models.When(cancel_reason="", then=models.Value(reason)), default=F("cancel_reason"))
        asked_at = Coalesce("cancel_requested_at", Now())
        with transaction.atomic():
            is_done = self._finish(attempt, CANCEL, Q(), cancel_reason=noted, cancel_requested_at=asked_at)
            if is_done:
                attempt.close(Outcome.CANCELLED, step=step)
            return is_done

    def release(self, attempt: Attempt, *, step: int | None = None) -> bool:
        """Go back to the queue because the worker stops; False if the claim is lost or a cancel came first."""
        with transaction.atomic():
            is_back = self._requeue(attempt, Q(cancel_requested_at=None))
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
        return self._move(WITHDRAW, Q(), cancel_reason=reason, cancel_requested_at=Now(), finished_at=Now())

    def request_cancel(self, *, reason: CancelReason = CancelReason.REQUEST) -> bool:
        """Ask its worker to stop; False if it does not run. A second request changes nothing and is True."""
        runs_on = Q(status=Status.RUNNING, cancel_requested_at=None)
        if not self._update(runs_on, cancel_reason=reason, cancel_requested_at=Now()):
            self.refresh_from_db()
        return self.status == Status.RUNNING

    def _lose(self, attempt: Attempt, guard: Q, *, detail: str) -> bool:
        """Close `attempt` as lost: cancelled if that was asked for, failed if it was the last, else queued again."""
        with transaction.atomic():
            losses = self.attempts.lost().count() + 1
            if self.cancel_requested_at is not None:
                has_moved = self._finish(attempt, CANCEL, guard)
            elif losses >= configuration().max_attempts:
                sentence = f"{losses} workers were lost while they ran it, so it is not tried again."
                has_moved = self._finish(attempt, FAIL, guard, error_code="worker_lost", error_detail=sentence)
            else:
                has_moved = self._requeue(attempt, guard & Q(cancel_requested_at=None))
            if has_moved:
                attempt.close(Outcome.LOST, detail=detail)
            return has_moved

    def _requeue(self, attempt: Attempt, guard: Q) -> bool:
        """Move back to the queue if `attempt` still holds the claim."""
        return self._move(
            RELEASE,
            guard & Q(claim_token=attempt.claim_token),
            claim_token=None,
            lease_until=None,
            dispatched_at=None,
            redispatch_at=None,
            step=0,
        )

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
        """Change this row if `guard` holds for it at that moment; the instance then shows what has changed.

        What the database has computed is read when somebody asks for it: most of it nobody does.
        """
        is_changed = bool(Generation.objects.filter(guard, pk=self.pk).update(**changes))
        if is_changed:
            for name, value in changes.items():
                if hasattr(value, "resolve_expression"):
                    self.__dict__.pop(name, None)  # as `del generation.name`: Django reads it when it is asked for
                else:
                    setattr(self, name, value)
        return is_changed
