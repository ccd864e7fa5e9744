"""An image: one result of a generation, and where its file lies."""

from django.db import models
from django.db.models.functions import Now

from generation.models.attempt import Attempt
from generation.models.generation import Generation


class Image(models.Model):
    """One picture on storage; written once, never changed."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="images")
    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="images")
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(help_text="The seed that draws this very image alone.")
    file = models.FileField(max_length=300)
    thumbnail = models.FileField(max_length=300)
    content_type = models.CharField(max_length=50)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    size_bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["index"]
        constraints = [models.UniqueConstraint(fields=["generation", "index"], name="one_image_per_index")]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation_id}"

    @property
    def download_name(self) -> str:
        """A file name that people can tell apart: the model and the seed that make it again."""
        extension = str(self.file.name).rpartition(".")[2]
        return f"{self.generation.model.slug}-{self.seed}.{extension}"
