"""Webhooks: what a user wants to be told where, and the outbox of events with each try to deliver them."""

import base64
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models import F, Q, Window
from django.db.models.functions import Now, RowNumber
from uuid_utils.compat import uuid7

from generation.lifecycle import CLAIM, FINISHED, Transition

if TYPE_CHECKING:
    from generation.models.generation import Generation

SECRET_BYTES = 32
OLD_SECRET_KEPT = timedelta(hours=24)
TIME_TO_DELIVER = timedelta(seconds=60)  # a message, or the worker that took it, counts as lost after this time


class Kind(StrEnum):
    """What a webhook may be about."""

    STARTED = "started"
    PROGRESS = "progress"
    FINISHED = "finished"


class State(StrEnum):
    """Where an event is. `GONE`: its receiver answered that it wants no more of this generation."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    GONE = "gone"


def draw_secret() -> str:
    """A signing secret as Standard Webhooks wants it: `whsec_` and 32 random bytes in Base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def finished_only() -> list[str]:
    """What is told unless somebody asks for more."""
    return [Kind.FINISHED]


class WebhookAccount(models.Model):
    """A user's signing secret, and where their generations report to unless a request says otherwise."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="webhook_account"
    )
    url = models.CharField(
        "URL", max_length=2000, blank=True, help_text="Used where a request names none. Empty: nothing is sent then."
    )
    events = models.JSONField(default=finished_only, help_text="What is sent to that URL.")
    secret = models.CharField(max_length=100, default=draw_secret, editable=False)
    old_secret = models.CharField(max_length=100, blank=True, editable=False)
    rotated_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "webhook account"
        ordering = ["owner_id"]

    def __str__(self) -> str:
        return f"webhooks of {self.owner}"

    @classmethod
    def of(cls, owner_id: int) -> "WebhookAccount":
        """The account of that user, with a secret drawn just now if there was none."""
        account, _ = cls.objects.get_or_create(owner_id=owner_id)
        return account

    @classmethod
    def default_of(cls, owner: AbstractBaseUser) -> "WebhookAccount | None":
        """The account of `owner` if it names a URL; costs no query where it was selected along with the user."""
        try:
            account: WebhookAccount = owner.webhook_account  # type: ignore[attr-defined]  # the other side of `owner`
        except ObjectDoesNotExist:
            return None
        return account if account.url else None

    def rotate(self) -> str:
        """Draw a new secret; for a day everything is signed with the old one too, so that receivers can change."""
        fresh = draw_secret()
        WebhookAccount.objects.filter(pk=self.pk).update(old_secret=F("secret"), secret=fresh, rotated_at=Now())
        self.refresh_from_db()
        return fresh

    def signing_secrets(self, *, now: datetime) -> list[str]:
        """The secret, and the old one while it is still good."""
        is_old_one_good = self.rotated_at is not None and now - self.rotated_at < OLD_SECRET_KEPT
        return [self.secret, self.old_secret] if self.old_secret and is_old_one_good else [self.secret]


class WebhookEventQuerySet(models.QuerySet["WebhookEvent"]):
    """Questions about many events."""

    def pending(self) -> "WebhookEventQuerySet":
        """Those that are still to be delivered."""
        return self.filter(state=State.PENDING)

    def dispatched(self) -> "WebhookEventQuerySet":
        """Those with a message on the way, or a worker at it."""
        return self.exclude(dispatched_at=None)

    def due(self) -> "WebhookEventQuerySet":
        """Those to be delivered now, the oldest first."""
        return self.pending().filter(due_at__lte=Now()).order_by("due_at")

    def first_of_each_owner(self, count: int) -> "WebhookEventQuerySet":
        """Of each owner's no more than so many, so that nobody stands in the way of the others."""
        place = Window(RowNumber(), partition_by="generation__owner", order_by="due_at")
        return self.annotate(place=place).filter(place__lte=count)


class WebhookEvent(models.Model):
    """One thing to tell, written in the transaction in which it happens; its id is the same at every try."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    generation = models.ForeignKey("generation.Generation", on_delete=models.CASCADE, related_name="webhook_outbox")
    kind = models.CharField(max_length=10, choices=[(kind.value, kind.value) for kind in Kind])
    facts = models.JSONField(default=dict, help_text="What was so at that moment and will change.")
    created_at = models.DateTimeField(db_default=Now())
    state = models.CharField(
        max_length=10, choices=[(state.value, state.value) for state in State], default=State.PENDING
    )
    tries = models.PositiveIntegerField(default=0, help_text="Tries so far, since it was last resent.")
    due_at = models.DateTimeField(db_default=Now(), null=True)
    dispatched_at = models.DateTimeField(null=True, help_text="Since when somebody is at it.")

    objects = WebhookEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["due_at"], name="webhook_events_due", condition=Q(state=State.PENDING)),
            models.Index(
                fields=["dispatched_at"], name="webhook_events_dispatched", condition=Q(dispatched_at__isnull=False)
            ),
            models.Index(fields=["created_at"], name="webhook_progress_by_age", condition=Q(kind=Kind.PROGRESS)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["generation"], condition=Q(kind=Kind.FINISHED), name="finished_once")
        ]

    def __str__(self) -> str:
        return str(self.pk)

    # --- The verbs ----------------------------------------------------------------------------------------

    def mark_dispatched(self) -> bool:
        """Take the right to publish a message for it; False if somebody else did or it is not due."""
        return self._update(Q(due_at__lte=Now()), due_at=Now() + TIME_TO_DELIVER, dispatched_at=Now())

    def unmark_dispatched(self) -> bool:
        """Note that no message was taken, so that it is published anew at once."""
        return self._update(Q(), due_at=Now(), dispatched_at=None)

    def claim(self, *, tries: int) -> bool:
        """Take the right to deliver it; False if a message is stale or comes twice."""
        return self._update(Q(tries=tries), tries=tries + 1, due_at=Now() + TIME_TO_DELIVER)

    def succeed(self) -> bool:
        """The receiver has it."""
        return self._update(Q(), state=State.DELIVERED, due_at=None, dispatched_at=None)

    def postpone(self, delay: timedelta) -> bool:
        """Try again after `delay`."""
        return self._update(Q(), due_at=Now() + delay, dispatched_at=None)

    def give_up(self) -> bool:
        """Never try again, unless an operator resends it."""
        return self._update(Q(), state=State.GIVEN_UP, due_at=None, dispatched_at=None)

    def resend(self) -> None:
        """Begin anew, under the same id, whatever came of it so far."""
        # Whoever resends knows that the receiver, if it had enough, wants to hear of the generation again.
        events = WebhookEvent.objects.filter(generation=self.generation_id)
        events.filter(state=State.GONE).update(state=State.GIVEN_UP)
        WebhookEvent.objects.filter(pk=self.pk).update(state=State.PENDING, tries=0, due_at=Now(), dispatched_at=None)
        self.refresh_from_db()

    def _update(self, guard: Q, **changes: Any) -> bool:
        """Change this row if it is pending, as this instance knows it, and `guard` holds."""
        known = Q(pk=self.pk, state=State.PENDING, tries=self.tries)
        is_changed = bool(WebhookEvent.objects.filter(known & guard).update(**changes))
        if is_changed:
            self.refresh_from_db(fields=list(changes))
        return is_changed


class WebhookDelivery(models.Model):
    """One try to deliver an event, and what the receiver answered."""

    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    tried_at = models.DateTimeField(db_default=Now())
    seconds = models.FloatField()
    status_code = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(blank=True, help_text="The beginning of the answer's body.")
    error = models.TextField(blank=True, help_text="Why there was no answer.")

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.status_code or 'no answer'} after {self.seconds:.1f} s"


def note(generation: "Generation", transition: Transition) -> None:
    """Write the event of a transition that has just been made, if its owner wants to be told."""
    if transition == CLAIM:
        kind, facts = Kind.STARTED, {"attempt": generation.attempt_count}
    elif transition.target in FINISHED:
        kind, facts = Kind.FINISHED, {}
    else:
        return
    if kind in generation.webhook_events:
        WebhookEvent.objects.create(generation=generation, kind=kind, facts=facts)


def note_progress(steps: dict[UUID, tuple[int, int]]) -> None:
    """Write how far generations are: step and total by the generation's id."""
    WebhookEvent.objects.bulk_create(
        WebhookEvent(generation_id=pk, kind=Kind.PROGRESS, facts={"step": step, "total": total})
        for pk, (step, total) in steps.items()
    )
