"""Models and requests for the engine's tests: the shipped model, and tiny random ones of other families."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import T5Config, T5EncoderModel

from generation.engines.engine import Engine
from generation.engines.types import ImageRequest, ModelSource, Progress

FOLDER = Path(__file__).parents[2] / "weights" / "fluent-emoji-256"
# Tensors this small gain nothing from a second thread, and on a busy machine threads wait for each other.
torch.set_num_threads(1)

SHIPPED = ModelSource(slug="fluent-emoji-256", source=str(FOLDER))


@cache
def shipped_engine() -> Engine:
    """A CPU engine with the shipped model; tests must leave the model loaded."""
    engine = Engine("cpu")
    engine.load(SHIPPED)
    return engine


def make_request(**changes: Any) -> ImageRequest:
    """One small, quick picture of a red apple by the shipped model."""
    request = ImageRequest(
        model=SHIPPED,
        prompt="red apple",
        negative_prompt="",
        width=64,
        height=64,
        num_inference_steps=2,
        guidance_scale=4.5,
        seed=7,
        num_images=1,
        scheduler="",
    )
    return replace(request, **changes)


def ignore(progress: Progress) -> None:
    """An on_step for tests that do not watch."""


@cache
def shipped_parts() -> dict[str, Any]:
    """The shipped model's text encoder, tokenizer and VAE, for other families to borrow."""
    parts = DiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32).components
    return {name: parts[name] for name in ("text_encoder", "tokenizer", "vae")}


def save_tiny_stable_diffusion(folder: Path) -> ModelSource:
    """Noise prediction by a random UNet."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=256,
    )
    pipe = StableDiffusionPipeline(
        **shipped_parts(),
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-stable-diffusion", source=str(folder))


def save_tiny_flux(folder: Path) -> ModelSource:
    """Flow matching by a random transformer."""
    torch.manual_seed(0)
    parts = shipped_parts()
    transformer = FluxTransformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=256,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    t5 = T5Config(vocab_size=3072, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    parts["vae"].register_to_config(shift_factor=0.0)
    pipe = FluxPipeline(
        **parts,
        transformer=transformer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=parts["tokenizer"],
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-flux", source=str(folder))
