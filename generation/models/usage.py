"""What was accepted from a user on a day: it stays when the generations are deleted."""

from datetime import date

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import F


class DailyUsage(models.Model):
    """Pixel-steps accepted on one day (UTC) by one key of a user, or without a key. Kept where there is a limit."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    api_key = models.CharField(max_length=25, blank=True)
    day = models.DateField()
    pixel_steps = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "day", "api_key"], name="one_row_per_key_and_day")]

    def __str__(self) -> str:
        return f"{self.owner} on {self.day}"


def add_usage(owner: AbstractBaseUser, *, api_key: str, day: date, pixel_steps: int) -> dict[str, int]:
    """Count some more; returns the pixel-steps of that day by key. Only for who holds the lock on the owner."""
    rows = DailyUsage.objects.filter(owner=owner.pk, day=day)
    if not rows.filter(api_key=api_key).update(pixel_steps=F("pixel_steps") + pixel_steps):
        DailyUsage.objects.create(owner_id=owner.pk, day=day, api_key=api_key, pixel_steps=pixel_steps)
    return dict(rows.values_list("api_key", "pixel_steps"))
