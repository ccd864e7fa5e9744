"""Tiny random models of pipelines that are not like the others."""

from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    IFPipeline,
    KandinskyV22CombinedPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from generation.engines.types import ModelSource
from tests.engines.models import shipped_parts, tiny_clip, tiny_t5, tiny_vae


def save_tiny_kandinsky(folder: Path) -> ModelSource:
    """Two pipelines in one: what they denoise with is not what is lent to the outer one, so nothing is shared."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=32,
        encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )
    movq = VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=32,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    pipe = KandinskyV22CombinedPipeline(
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        movq=movq,
        prior_prior=PriorTransformer(
            num_attention_heads=2, attention_head_dim=16, num_layers=1, embedding_dim=32, num_embeddings=32
        ),
        prior_image_encoder=CLIPVisionModelWithProjection(vision),
        prior_text_encoder=tiny_clip(),
        prior_tokenizer=shipped_parts()["tokenizer"],
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=10.0),
        prior_image_processor=CLIPImageProcessorPil(size=32, crop_size=32),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-kandinsky", source=str(folder))


def save_tiny_pixart(folder: Path) -> ModelSource:
    """Takes no callback_on_step_end, and knows no other beginning than noise."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=32,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
    )
    pipe = PixArtSigmaPipeline(
        tokenizer=shipped_parts()["tokenizer"],
        text_encoder=tiny_t5(),
        vae=tiny_vae(latent_channels=4),
        transformer=transformer,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-pixart", source=str(folder))


def save_tiny_deepfloyd(folder: Path) -> ModelSource:
    """Denoises pixels, has no VAE, and takes no callback_on_step_end."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
        time_embedding_act_fn="gelu",
        class_embed_type=None,
    )
    pipe = IFPipeline(
        tokenizer=shipped_parts()["tokenizer"],
        text_encoder=tiny_t5(),
        unet=unet,
        scheduler=DDPMScheduler(variance_type="learned_range", beta_schedule="squaredcos_cap_v2", thresholding=True),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-deepfloyd", source=str(folder))
