"""What a user asked for: the fields of a generation that never change once it is submitted."""

from django.conf import settings
from django.db import models

from generation.models.device import Device
from generation.models.diffusion_model import DiffusionModel


class Request(models.Model):
    """Who wants which pictures; `Generation`, its only child, is what becomes of it."""

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
    is_reproducible = models.BooleanField(
        default=False, help_text="The same bits each time on the same kind of device, whatever else runs there."
    )
    image_format = models.CharField(max_length=10, default="png")
    priority = models.SmallIntegerField(default=0)
    pinned_to = models.ForeignKey(Device, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        abstract = True
