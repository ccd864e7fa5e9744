"""The registry of diffusion models that users may ask for."""

import json
from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from generation.conf import configuration
from generation.engines.abilities import Abilities, read_abilities
from generation.engines.schedulers import SCHEDULERS, compatible_with
from generation.engines.types import ModelSource

SIZE_MULTIPLE = 8
SIZE_VALIDATORS = [MinValueValidator(SIZE_MULTIPLE), MaxValueValidator(8192)]
STEP_VALIDATORS = [MinValueValidator(1), MaxValueValidator(1000)]


class DiffusionModelQuerySet(models.QuerySet["DiffusionModel"]):
    """Questions about many models."""

    def enabled(self) -> "DiffusionModelQuerySet":
        """Those that users may ask for, the default one first."""
        return self.filter(is_enabled=True).order_by("-is_default", "slug")


class DiffusionModel(models.Model):
    """A diffusers pipeline that users may name by its slug, with its defaults and limits."""

    slug = models.SlugField(unique=True, help_text="The name in requests and queues, for example sdxl-base.")
    name = models.CharField(max_length=200, help_text="The name that people read.")
    source = models.CharField(
        max_length=500,
        help_text="A folder in the diffusers format (relative ones start at Pictor's own folder) or a hub id.",
    )
    revision = models.CharField(max_length=200, blank=True, help_text="The commit of a hub id; empty for a folder.")
    dtype = models.CharField(
        max_length=20,
        default="auto",
        choices=[(dtype, dtype) for dtype in ("auto", "float32", "bfloat16", "float16")],
        help_text="auto: bfloat16 on a GPU, float32 on a CPU.",
    )
    may_save_memory = models.BooleanField(
        "may save memory",
        default=True,
        help_text="On a GPU that is too small for it, decode pictures in tiles, which may leave faint seams, and keep "
        "text encoders in main memory; else such generations fail with out_of_memory.",
    )
    is_enabled = models.BooleanField(default=True, help_text="Whether users may ask for it.")
    is_default = models.BooleanField(default=False, help_text="Used when a request names no model.")

    default_width = models.PositiveIntegerField(default=512, validators=SIZE_VALIDATORS)
    default_height = models.PositiveIntegerField(default=512, validators=SIZE_VALIDATORS)
    default_num_inference_steps = models.PositiveIntegerField(default=30, validators=STEP_VALIDATORS)
    default_guidance_scale = models.FloatField(default=7.0, validators=[MinValueValidator(0.0)])
    max_width = models.PositiveIntegerField(default=1024, validators=SIZE_VALIDATORS)
    max_height = models.PositiveIntegerField(default=1024, validators=SIZE_VALIDATORS)
    max_num_inference_steps = models.PositiveIntegerField(default=100, validators=STEP_VALIDATORS)
    max_guidance_scale = models.FloatField(default=30.0, validators=[MinValueValidator(0.0)])
    max_num_images = models.PositiveIntegerField(default=4, validators=[MinValueValidator(1)])
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DiffusionModelQuerySet.as_manager()

    class Meta:
        verbose_name = "diffusion model"
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=models.Q(is_default=True),
                name="one_default_model",
                violation_error_message="Another model is the default already. Unset it there first.",
            )
        ]

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        """Refuse defaults that the limits would refuse."""
        pairs = ["width", "height", "num_inference_steps", "guidance_scale"]
        over = [name for name in pairs if getattr(self, f"default_{name}") > getattr(self, f"max_{name}")]
        if over:
            raise ValidationError({f"default_{name}": "This is more than the limit below." for name in over})

    @property
    def folder(self) -> Path | None:
        """The model's folder on this machine, or None for a hub id."""
        path = configuration().base_dir / self.source
        return path if path.is_dir() else None

    @property
    def model_source(self) -> ModelSource:
        """What an engine needs to load this model."""
        source = str(self.folder or self.source)
        return ModelSource(
            slug=self.slug,
            source=source,
            revision=self.revision or None,
            dtype=self.dtype,
            may_save_memory=self.may_save_memory,
        )

    @property
    def abilities(self) -> Abilities:
        """What a generation can begin with: read from the model's folder; unknown for a hub id."""
        return Abilities() if self.folder is None else read_abilities(self.folder)

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Names of the schedulers that fit: read from the model's folder; all of them for a hub id."""
        if self.folder is None:
            return tuple(SCHEDULERS)
        try:
            saved = json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text())
            return compatible_with(saved["_class_name"], prediction_type=saved.get("prediction_type", "epsilon"))
        except (OSError, ValueError, KeyError):
            return tuple(SCHEDULERS)
