"""Models of full size with random weights, for benchmarks on a GPU: what a forward costs does not depend on them.

    python benchmarks/architectures.py sdxl /tmp/sdxl    # sd15, sdxl, sd3, flux-schnell, z-image

Denoisers, VAEs and CLIP text encoders have the published configurations. T5-XXL and Qwen3-4B have their full width
and only 2 of their 24 and 36 layers, because a prompt is encoded once. The tokenizer is that of the model that
ships with Pictor: its 3,072 tokens change no timing. Nothing is downloaded. The weights are made on the device and
saved in its dtype, in GiB of bfloat16: sd15 2, sdxl 6.5, sd3 6, flux-schnell 24, z-image 13.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
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
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

TOKENIZER = Path(__file__).resolve().parent.parent / "weights" / "fluent-emoji-256" / "tokenizer"
FIRST_TOKEN, LAST_TOKEN = 3070, 3071
LANGUAGE_MODEL_LAYERS = 2


def save(name: str, folder: Path, *, dtype: torch.dtype, device: str) -> None:
    """Make one of ARCHITECTURES on the device and save it in diffusers format."""
    torch.manual_seed(0)
    with made_on(device, dtype=dtype):
        pipe = ARCHITECTURES[name]()
        give_contrast(pipe.vae)
    pipe.save_pretrained(folder)


@torch.no_grad()
def give_contrast(vae: Any) -> None:
    """Have the VAE use the whole range of pixels: as made it draws one grey, in which nobody would see a difference."""
    last = vae.decoder.conv_out
    pixels = vae.decode(torch.randn(1, vae.config.latent_channels, 32, 32)).sample
    last.weight.mul_(0.5 / pixels.std())
    last.bias.zero_()


@contextmanager
def made_on(device: str, *, dtype: torch.dtype) -> Iterator[None]:
    """Modules that are made in the block have their weights on the device, in the dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def stable_diffusion() -> DiffusionPipeline:
    """https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5"""
    return StableDiffusionPipeline(
        vae=_vae(scaling_factor=0.18215, sample_size=512),
        text_encoder=CLIPTextModel(_clip_large()),
        tokenizer=_clip_tokenizer(),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        scheduler=_scheduler(
            PNDMScheduler, **_BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, trained_betas=None
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> DiffusionPipeline:
    """https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0"""
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, sample_size=1024),
        text_encoder=CLIPTextModel(_clip_large()),
        text_encoder_2=CLIPTextModelWithProjection(_clip_big()),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        unet=unet,
        scheduler=_scheduler(EulerDiscreteScheduler, **_BETAS, steps_offset=1, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def stable_diffusion_3() -> DiffusionPipeline:
    """https://huggingface.co/stabilityai/stable-diffusion-3-medium-diffusers"""
    transformer = SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        pos_embed_max_size=192,
    )
    return StableDiffusion3Pipeline(
        vae=_vae_of_16_channels(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(_clip_large()),
        text_encoder_2=CLIPTextModelWithProjection(_clip_big()),
        text_encoder_3=_t5(),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=_language_tokenizer(),
        transformer=transformer,
        scheduler=_scheduler(FlowMatchEulerDiscreteScheduler, shift=3.0),
    )


def flux_schnell() -> DiffusionPipeline:
    """https://huggingface.co/black-forest-labs/FLUX.1-schnell"""
    return FluxPipeline(
        vae=_vae_of_16_channels(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(_clip_large()),
        text_encoder_2=_t5(),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_language_tokenizer(),
        transformer=FluxTransformer2DModel(guidance_embeds=False),
        scheduler=_scheduler(FlowMatchEulerDiscreteScheduler, shift=1.0),
    )


def z_image() -> DiffusionPipeline:
    """https://huggingface.co/Tongyi-MAI/Z-Image-Turbo"""
    qwen = Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=LANGUAGE_MODEL_LAYERS,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
    )
    return ZImagePipeline(
        vae=_vae_of_16_channels(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen3Model(qwen),
        tokenizer=_language_tokenizer(),
        transformer=ZImageTransformer2DModel(axes_lens=[1536, 512, 512]),
        scheduler=_scheduler(FlowMatchEulerDiscreteScheduler, shift=3.0),
    )


ARCHITECTURES: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd15": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux-schnell": flux_schnell,
    "z-image": z_image,
}


def _scheduler(kind: Callable[..., Any], **config: Any) -> Any:
    """Schedulers compute with numpy, which knows no GPU."""
    with torch.device("cpu"):
        return kind(**config)


_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _vae(*, scaling_factor: float, sample_size: int, latent_channels: int = 4, **config: float | bool) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=latent_channels,
        scaling_factor=scaling_factor,
        sample_size=sample_size,
        **config,
    )


def _vae_of_16_channels(*, scaling_factor: float, shift_factor: float) -> AutoencoderKL:
    return _vae(
        scaling_factor=scaling_factor,
        sample_size=1024,
        latent_channels=16,
        shift_factor=shift_factor,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _clip_large() -> CLIPTextConfig:
    """OpenAI's CLIP ViT-L/14."""
    return CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        **_CLIP_TOKENS,
    )


def _clip_big() -> CLIPTextConfig:
    """OpenCLIP ViT-bigG/14."""
    return CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
        **_CLIP_TOKENS,
    )


_CLIP_TOKENS: dict[str, Any] = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": FIRST_TOKEN,
    "eos_token_id": LAST_TOKEN,
    "pad_token_id": LAST_TOKEN,
}


def _t5() -> T5EncoderModel:
    """T5 v1.1 XXL."""
    return T5EncoderModel(
        T5Config(
            vocab_size=32128,
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=LANGUAGE_MODEL_LAYERS,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        )
    )


def _clip_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)


def _language_tokenizer() -> PreTrainedTokenizerFast:
    """For T5, and with its template of a chat for Qwen3 too."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_clip_tokenizer().backend_tokenizer,
        pad_token="<|endoftext|>",
        model_max_length=512,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )


def main() -> None:
    """The command line."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ARCHITECTURES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if has_gpu else "float32")
    arguments = parser.parse_args()
    save(arguments.name, arguments.folder, dtype=getattr(torch, arguments.dtype), device=arguments.device)


if __name__ == "__main__":
    main()
