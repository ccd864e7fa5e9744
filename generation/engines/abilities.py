"""What a pipeline can begin with besides a prompt, by the name of its class: known without importing diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# AUTO_IMAGE2IMAGE_PIPELINES_MAPPING and AUTO_INPAINT_PIPELINES_MAPPING of diffusers 0.42.1, which `variants` asks.
# A test compares them.
_REDRAW_AND_INPAINT = _names(
    """
    FluxControlImg2ImgPipeline FluxControlInpaintPipeline FluxControlNetImg2ImgPipeline
    FluxControlNetInpaintPipeline FluxControlNetPipeline FluxControlPipeline FluxImg2ImgPipeline
    FluxInpaintPipeline FluxPipeline IFImg2ImgPipeline IFInpaintingPipeline IFPipeline KandinskyCombinedPipeline
    KandinskyImg2ImgCombinedPipeline KandinskyImg2ImgPipeline KandinskyInpaintCombinedPipeline
    KandinskyInpaintPipeline KandinskyPipeline KandinskyV22CombinedPipeline KandinskyV22Img2ImgCombinedPipeline
    KandinskyV22Img2ImgPipeline KandinskyV22InpaintCombinedPipeline KandinskyV22InpaintPipeline
    KandinskyV22Pipeline QwenImageEditInpaintPipeline QwenImageEditPipeline QwenImageImg2ImgPipeline
    QwenImageInpaintPipeline QwenImagePipeline StableDiffusion3Img2ImgPipeline StableDiffusion3InpaintPipeline
    StableDiffusion3Pipeline StableDiffusionControlNetImg2ImgPipeline StableDiffusionControlNetInpaintPipeline
    StableDiffusionControlNetPipeline StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline
    StableDiffusionPAGImg2ImgPipeline StableDiffusionPAGInpaintPipeline StableDiffusionPAGPipeline
    StableDiffusionPipeline StableDiffusionXLControlNetImg2ImgPipeline
    StableDiffusionXLControlNetInpaintPipeline StableDiffusionXLControlNetPipeline
    StableDiffusionXLControlNetUnionImg2ImgPipeline StableDiffusionXLControlNetUnionInpaintPipeline
    StableDiffusionXLControlNetUnionPipeline StableDiffusionXLImg2ImgPipeline StableDiffusionXLInpaintPipeline
    StableDiffusionXLPAGImg2ImgPipeline StableDiffusionXLPAGInpaintPipeline StableDiffusionXLPAGPipeline
    StableDiffusionXLPipeline ZImageImg2ImgPipeline ZImageInpaintPipeline ZImagePipeline
    """
)
_REDRAW = _names(
    """
    Flux2KleinPipeline Flux2Pipeline FluxKontextPipeline Kandinsky3Img2ImgPipeline Kandinsky3Pipeline
    LatentConsistencyModelImg2ImgPipeline LatentConsistencyModelPipeline QwenImageEditPlusPipeline
    QwenImageLayeredPipeline StableDiffusion3PAGImg2ImgPipeline StableDiffusion3PAGPipeline
    StableDiffusionXLControlNetPAGImg2ImgPipeline StableDiffusionXLControlNetPAGPipeline
    """
)
_INPAINT = _names(
    """
    StableDiffusion3ControlNetInpaintingPipeline StableDiffusion3ControlNetPipeline
    StableDiffusionControlNetPAGInpaintPipeline StableDiffusionControlNetPAGPipeline
    """
)

# Pipelines that look at a list of images to make one, and the parameter that takes it. In all others a list is a batch.
REFERENCES: Mapping[str, str] = {
    "Flux2KleinKVPipeline": "image",
    "Flux2KleinPipeline": "image",
    "Flux2Pipeline": "image",
    "JoyImageEditPlusPipeline": "images",
    "OmniGenPipeline": "input_images",
    "QwenImage21Pipeline": "image",
    "QwenImageEditPlusPipeline": "image",
    "ZImageOmniPipeline": "image",
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model can begin with; None where that shows only once it is loaded."""

    image: bool | None = None
    mask: bool | None = None
    reference_images: bool | None = None


def abilities_of(pipeline_class: str) -> Abilities:
    """What a pipeline of that class can begin with."""
    return Abilities(
        image=pipeline_class in _REDRAW_AND_INPAINT | _REDRAW,
        mask=pipeline_class in _REDRAW_AND_INPAINT | _INPAINT,
        reference_images=pipeline_class in REFERENCES,
    )


def read_abilities(folder: Path) -> Abilities:
    """The same for a model in diffusers' folder format; nothing is known of what cannot be read."""
    try:
        return abilities_of(json.loads((folder / "model_index.json").read_text())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return Abilities()
