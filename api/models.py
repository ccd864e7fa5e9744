"""The keys that programs authenticate with."""

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from knox.models import AbstractAuthToken, AuthTokenManager

from generation.models.limits import LimitFields
from generation.quotas import Credential, Limits

LONGEST_NAME = 100


class Scope(models.TextChoices):
    """What a key may be used for."""

    READ = "read", "read: look at generations and images"
    GENERATE = "generate", "generate: submit, cancel and delete generations"
    ADMIN = "admin", "admin: what staff may do beyond their own generations"


def default_scopes() -> list[str]:
    """What a new key may do unless said otherwise."""
    return [Scope.READ, Scope.GENERATE]


class ApiKeyManager(AuthTokenManager):
    """Reads the owner's limits along with each key: knox asks for the owner alone, and every request needs both."""

    def get_queryset(self) -> models.QuerySet["ApiKey"]:
        """All keys."""
        return super().get_queryset().select_related("user__limits_row", "user__webhook_account")


class ApiKey(LimitFields, AbstractAuthToken):
    """A key of a user; only its SHA-512 digest is stored, so it is shown once, when it is made."""

    LAST_USED_RESOLUTION = timedelta(minutes=1)

    name = models.CharField(max_length=LONGEST_NAME, help_text="What it is for, so that you know which one to revoke.")
    scopes = models.JSONField(default=default_scopes, help_text="Any of: read, generate, admin.")
    last_used_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyManager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created"]
        constraints = [models.UniqueConstraint(fields=["user", "token_key"], name="keys_of_a_user_differ_at_once")]

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}...)"

    @property
    def has_expired(self) -> bool:
        """Whether it is refused from now on."""
        return self.expiry is not None and self.expiry < timezone.now()

    @property
    def credential(self) -> Credential:
        """What the domain needs to know of it."""
        return Credential(name=self.token_key, limits=self.limits(otherwise=Limits()))

    def touch(self) -> None:
        """Note that the key was used, at most once a minute, so that reads do not each cost a write."""
        if self.last_used_at is None or timezone.now() - self.last_used_at > self.LAST_USED_RESOLUTION:
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=Now())
