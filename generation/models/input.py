"""An input: a picture that somebody has uploaded to begin with, and where its file lies."""

from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class InputQuerySet(models.QuerySet["Input"]):
    """Questions about many inputs."""

    def usable(self) -> "InputQuerySet":
        """Those that lie on the storage, and will for a while."""
        return self.filter(removed_at=None).exclude(stored_at=None)

    def expired(self) -> "InputQuerySet":
        """Those whose time is over, unless a generation has them."""
        return self.filter(removed_at=None, expires_at__lt=Now())

    def used(self) -> "InputQuerySet":
        """Those that a generation has."""
        return self.filter(self._is_used())

    def unused(self) -> "InputQuerySet":
        """Those that no generation has, or none any more."""
        return self.filter(~self._is_used())

    def removed(self) -> "InputQuerySet":
        """Those that nobody can ask for any more, whose files are about to go."""
        return self.exclude(removed_at=None)

    def _is_used(self) -> Exists:
        # Not a join: in an UPDATE that would hide expires_at in a subquery, which is not looked at again after a wait.
        uses = apps.get_model("generation", "GenerationInput")
        return Exists(uses.objects.filter(input=OuterRef("pk")))


class Input(models.Model):
    """One picture, as the decoder has written it. The row comes first, so no file is without one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="inputs")
    file = models.FileField(max_length=300)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    size_bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())
    stored_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="When it goes, unless a generation has it.")
    removed_at = models.DateTimeField(null=True)

    content_type = "image/png"

    objects = InputQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="inputs_of_an_owner"),
            models.Index(fields=["expires_at"], name="inputs_by_expiry"),
        ]

    def __str__(self) -> str:
        return f"input {self.pk}"

    @property
    def download_name(self) -> str:
        """A file name that people can tell apart."""
        return f"{self.pk}.png"


def unguessable_name() -> str:
    """A new name on the storage."""
    return f"inputs/{uuid4().hex}.png"
