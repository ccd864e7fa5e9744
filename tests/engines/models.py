"""Models and requests for the engine's tests: the shipped model, and tiny random ones of other families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from generation.engines.engine import Engine
from generation.engines.types import ImageRequest, ModelSource, Progress
from tests import measurements

FOLDER = Path(__file__).parents[2] / "weights" / "fluent-emoji-256"
# Tensors this small gain nothing from a second thread, and on a busy machine threads wait for each other.
torch.set_num_threads(1)

SHIPPED = ModelSource(slug="fluent-emoji-256", source=str(FOLDER))


def open_engine() -> Engine:
    """An engine on the CPU that knows what others in this run have measured: that takes seconds."""
    return Engine("cpu", folder=measurements.folder())


@cache
def shipped_engine() -> Engine:
    """A CPU engine with the shipped model; tests must leave the model loaded."""
    engine = open_engine()
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
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=256,
    )
    pipe = StableDiffusionPipeline(
        **{**shipped_parts(), "vae": tiny_vae(latent_channels=4)},
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
        num_attention_heads=1,
        joint_attention_dim=32,
        pooled_projection_dim=256,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    parts["vae"].register_to_config(shift_factor=0.0)
    pipe = FluxPipeline(
        **parts,
        transformer=transformer,
        text_encoder_2=tiny_t5(),
        tokenizer_2=parts["tokenizer"],
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-flux", source=str(folder))


def save_tiny_stable_diffusion_xl(folder: Path) -> ModelSource:
    """Two text encoders, and sizes among the conditions."""
    torch.manual_seed(0)
    parts = {**shipped_parts(), "vae": tiny_vae(latent_channels=4)}
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=256 + 32,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    pipe = StableDiffusionXLPipeline(
        **parts,
        unet=unet,
        text_encoder_2=tiny_clip(),
        tokenizer_2=parts["tokenizer"],
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        add_watermarker=False,
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-stable-diffusion-xl", source=str(folder))


def save_tiny_stable_diffusion_3(folder: Path) -> ModelSource:
    """Three text encoders, and guidance by twice the rows."""
    torch.manual_seed(0)
    parts = shipped_parts()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=320,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
    )
    pipe = StableDiffusion3Pipeline(
        vae=tiny_vae(latent_channels=16),
        transformer=transformer,
        text_encoder=tiny_clip(),
        tokenizer=parts["tokenizer"],
        text_encoder_2=tiny_clip(),
        tokenizer_2=parts["tokenizer"],
        text_encoder_3=tiny_t5(width=320),
        tokenizer_3=parts["tokenizer"],
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-stable-diffusion-3", source=str(folder))


def save_tiny_z_image(folder: Path) -> ModelSource:
    """A transformer that takes lists: captions of different lengths, and pictures."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=8,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        cap_feat_dim=32,
        axes_dims=[8, 12, 12],
        axes_lens=[256, 64, 64],
    )
    qwen = Qwen3Config(
        vocab_size=3072,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
    )
    vae = shipped_parts()["vae"]
    vae.register_to_config(shift_factor=0.0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=shipped_parts()["tokenizer"].backend_tokenizer,
        pad_token="<|endoftext|>",
        model_max_length=512,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )
    pipe = ZImagePipeline(
        vae=vae,
        transformer=transformer,
        text_encoder=Qwen3Model(qwen),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-z-image", source=str(folder))


def tiny_vae(latent_channels: int) -> AutoencoderKL:
    """A random VAE, because inpainting pipelines insist on the number of latent channels of their family."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 16, 16),
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=64,
        shift_factor=0.0,
    )


def tiny_t5(width: int = 32) -> T5EncoderModel:
    """A random T5."""
    return T5EncoderModel(T5Config(vocab_size=3072, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def tiny_clip() -> CLIPTextModelWithProjection:
    """A random CLIP that also gives a pooled embedding."""
    config = CLIPTextConfig(
        vocab_size=3072,
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=3071,
        eos_token_id=3071,
    )
    return CLIPTextModelWithProjection(config)


FAMILIES: dict[str, Callable[[Path], ModelSource]] = {
    "stable diffusion": save_tiny_stable_diffusion,
    "stable diffusion xl": save_tiny_stable_diffusion_xl,
    "stable diffusion 3": save_tiny_stable_diffusion_3,
    "flux": save_tiny_flux,
    "z-image": save_tiny_z_image,
}


@cache
def family_engine(family: str) -> tuple[Engine, ModelSource]:
    """A CPU engine with the tiny model of a family; tests must leave the model loaded."""
    engine = open_engine()
    with TemporaryDirectory() as folder:
        engine.load(source := FAMILIES[family](Path(folder)))
    (callee,) = engine._models[source.slug].denoisers.values()
    engine._notebook.put(f"latents at the knee of {callee.name}", 10**9)  # all may share, whatever was measured here
    return engine, source
