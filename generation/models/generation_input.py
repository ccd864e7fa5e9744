"""What a generation begins with: an upload, or a result of an earlier generation, and the part that it plays."""

from django.db import models
from django.db.models import Q

from generation.models.generation import Generation
from generation.models.input import Input


class Role(models.TextChoices):
    """The part that a picture plays, by the name that it has in a request."""

    IMAGE = "image", "the image that is redrawn"
    MASK = "mask", "where it is redrawn"
    REFERENCE = "reference_images", "an image to look at"


class GenerationInput(models.Model):
    """One picture of those that a generation begins with.

    An earlier result is named and not pointed to: its owner may delete it at any time, and what it was is still shown.
    """

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="inputs")
    role = models.CharField(max_length=20, choices=Role.choices)
    position = models.PositiveSmallIntegerField(default=0)
    # RESTRICT, not PROTECT: with a user go both.
    input = models.ForeignKey(Input, on_delete=models.RESTRICT, null=True, related_name="uses")
    earlier_generation_id = models.UUIDField(null=True)
    earlier_index = models.PositiveSmallIntegerField(null=True)
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["role", "position"]
        constraints = [
            models.UniqueConstraint(fields=["generation", "role", "position"], name="one_picture_per_part"),
            models.CheckConstraint(
                condition=Q(input=None, earlier_generation_id__isnull=False, earlier_index__isnull=False)
                | Q(input__isnull=False, earlier_generation_id=None, earlier_index=None),
                name="an_upload_or_an_earlier_result",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} of {self.generation_id}"
