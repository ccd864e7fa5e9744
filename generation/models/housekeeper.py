"""A sign of life of the housekeepers, by which workers see that there is one."""

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now


class HousekeeperQuerySet(models.QuerySet["Housekeeper"]):
    """Questions about housekeepers."""

    def alive(self, *, within: timedelta) -> "HousekeeperQuerySet":
        """Those that have done their chores lately."""
        return self.filter(seen_at__gt=Now() - within)

    def sign(self, host: str) -> None:
        """Note that the housekeeper of this host has just done its chores."""
        self.update_or_create(host=host, defaults={"seen_at": Now()})


class Housekeeper(models.Model):
    """The housekeeper of one host."""

    host = models.CharField(max_length=200, unique=True)
    seen_at = models.DateTimeField()

    objects = HousekeeperQuerySet.as_manager()

    def __str__(self) -> str:
        return f"the housekeeper of {self.host}"
