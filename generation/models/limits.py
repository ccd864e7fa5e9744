"""Limits of single users and keys, where they differ from the settings."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection, models

from generation.conf import configuration
from generation.quotas import Limits


class LimitFields(models.Model):
    """A row's own limits. Empty: it has none of its own. 0: nothing is limited."""

    max_waiting = models.PositiveIntegerField(
        "waiting generations", null=True, blank=True, help_text="The most that may wait at once."
    )
    max_unfinished = models.PositiveIntegerField(
        "unfinished generations", null=True, blank=True, help_text="The most that may wait and run at once."
    )
    max_running = models.PositiveIntegerField(
        "running generations",
        null=True,
        blank=True,
        help_text="The most that may run at once; the others wait in line.",
    )
    max_event_streams = models.PositiveIntegerField(
        "event streams", null=True, blank=True, help_text="The most streams of live events that may be open at once."
    )
    max_pixel_steps_per_day = models.PositiveBigIntegerField(
        "pixel-steps per day",
        null=True,
        blank=True,
        help_text="Width × height × steps × images of all that is accepted from midnight to midnight, UTC.",
    )
    max_requests_per_minute = models.PositiveIntegerField("requests per minute", null=True, blank=True)

    class Meta:
        abstract = True

    def limits(self, *, otherwise: Limits) -> Limits:
        """What is in force, where `otherwise` holds for what is empty here."""

        def chosen(own: int | None, other: int | None) -> int | None:
            return other if own is None else own or None

        return Limits(
            waiting=chosen(self.max_waiting, otherwise.waiting),
            unfinished=chosen(self.max_unfinished, otherwise.unfinished),
            running=chosen(self.max_running, otherwise.running),
            event_streams=chosen(self.max_event_streams, otherwise.event_streams),
            pixel_steps_per_day=chosen(self.max_pixel_steps_per_day, otherwise.pixel_steps_per_day),
            requests_per_minute=chosen(self.max_requests_per_minute, otherwise.requests_per_minute),
        )


class UserLimits(LimitFields):
    """What one user may have instead of what the settings say."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="limits_row")

    class Meta:
        verbose_name = verbose_name_plural = "user limits"
        ordering = ["user__username"]

    def __str__(self) -> str:
        return f"limits of {self.user}"


def limits_of(user: AbstractBaseUser) -> Limits:
    """The limits in force for a user; costs no query where `limits_row` was selected along with the user."""
    usual = configuration().limits_per_user
    try:
        row: UserLimits = user.limits_row  # type: ignore[attr-defined]  # the other side of UserLimits.user
    except ObjectDoesNotExist:
        return usual
    return row.limits(otherwise=usual)


def lock_owner(owner_id: int) -> None:
    """Have the owner's other transactions that are limited wait for the end of this one."""
    if connection.features.has_select_for_update:  # else, on SQLite, BEGIN IMMEDIATE has done so already
        # NO KEY: rows that refer to the user are inserted meanwhile without waiting.
        users = get_user_model().objects.select_for_update(no_key=True).filter(pk=owner_id)
        list(users.values_list("pk"))
