"""What a user asked for: the fields of a generation that never change once it is submitted."""

from django.conf import settings
from django.db import models

from generation.models.batch import Batch
from generation.models.device import Device
from generation.models.diffusion_model import DiffusionModel


class Request(models.Model):
    """Who wants which pictures, and on which terms; `Generation`, its only child, is what becomes of it."""

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

    idempotency_key = models.CharField(max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="The SHA-256 of what was asked for.")
    webhook_url = models.CharField(max_length=2000, blank=True)
    webhook_events = models.JSONField(default=list)
    webhook_words = models.CharField(max_length=300, blank=True, help_text="A dialect and our address in it; or ours.")
    deadline_at = models.DateTimeField(null=True, help_text="Cancelled if it has not ended by then.")
    start_by = models.DateTimeField(null=True, help_text="Cancelled if it has not begun by then.")

    class Meta:
        abstract = True

    @property
    def pixel_steps(self) -> int:
        """What it costs to draw, about: pixels × denoise steps of all images."""
        return self.width * self.height * self.num_inference_steps * self.num_images
