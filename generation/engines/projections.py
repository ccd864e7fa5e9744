"""Projections of latents to RGB: three sums per latent instead of a decoder, and a picture one can recognise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from generation.engines.side_stream import fetch

# To fit by: pictures of 3 by 3 patches, each patch 4 by 4 latents.
_PICTURES, _PATCHES, _LATENTS_PER_PATCH = 4, 3, 4


@dataclass(frozen=True, slots=True)
class Projection:
    """`factors` is (channels, 3) and `bias` (3,); the RGB that they give runs from -1 to 1."""

    factors: torch.Tensor
    bias: torch.Tensor

    def to(self, device: torch.device) -> Projection:
        """The same one there."""
        return Projection(self.factors.to(device), self.bias.to(device))

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """uint8 (h, w, 3) of latents (channels, h, w) on the same device."""
        rgb = latents.float().permute(1, 2, 0) @ self.factors + self.bias
        return ((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def known(config: Mapping[str, Any]) -> Projection | None:
    """The projection that is published for a VAE of this configuration."""
    factors = _KNOWN.get((config.get("latent_channels", 0), config.get("scaling_factor", 0.0)))
    return Projection(torch.tensor(factors[:-1]), torch.tensor(factors[-1])) if factors else None


def fit(vae: Any, *, pixels_per_latent: int, device: torch.device) -> Projection | None:
    """The projection that fits best, by least squares, what the VAE makes of patches of colour; None if none does.

    Patches, because pictures are made of areas rather than of noise, and latents of noise have other statistics.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    # Beyond what can be, then cut off: full red, white and the like must be among the colours.
    colours = (torch.rand(_PICTURES, 3, _PATCHES, _PATCHES, generator=generator) * 3 - 1.5).clamp(-1, 1)
    side = _PATCHES * _LATENTS_PER_PATCH
    rgb = torch.nn.functional.interpolate(colours, size=(side, side))
    pictures = torch.nn.functional.interpolate(rgb, size=(side * pixels_per_latent,) * 2)
    with torch.no_grad():
        latents = _as_denoised(vae.encode(pictures.to(device, vae.dtype)), config=vae.config)
    latents = fetch(lambda: [latents], device=device)[0].float()
    if latents.shape[:1] + latents.shape[2:] != rgb.shape[:1] + rgb.shape[2:] or not torch.isfinite(latents).all():
        return None
    per_latent = latents.permute(0, 2, 3, 1).flatten(0, 2)
    with_one = torch.nn.functional.pad(per_latent, (0, 1), value=1.0)
    solution = torch.linalg.lstsq(with_one, rgb.permute(0, 2, 3, 1).flatten(0, 2)).solution
    return Projection(solution[:-1], solution[-1])


def _as_denoised(encoded: Any, *, config: Mapping[str, Any]) -> torch.Tensor:
    """The latents of a VAE's output as they are between steps: pipelines scale them so that they vary by about 1."""
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
    scale = config.get("scaling_factor") or 1.0
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is None or deviation is None:
        return (latents - (config.get("shift_factor") or 0.0)) * scale
    mean, deviation = (torch.tensor(each).view(1, -1, 1, 1).to(latents) for each in (mean, deviation))
    return (latents - mean) * scale / deviation


# By latent_channels and scaling_factor; the last row is the bias. The figures are those that ComfyUI publishes:
# https://github.com/comfyanonymous/ComfyUI/blob/master/comfy/latent_formats.py
_STABLE_DIFFUSION = (
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
    (0.0, 0.0, 0.0),
)
_STABLE_DIFFUSION_XL = (
    (0.3651, 0.4232, 0.4341),
    (-0.2533, -0.0042, 0.1068),
    (0.1076, 0.1111, -0.0362),
    (-0.3165, -0.2492, -0.2188),
    (0.1084, -0.0175, -0.0011),
)
_STABLE_DIFFUSION_3 = (
    (-0.0922, -0.0175, 0.0749),
    (0.0311, 0.0633, 0.0954),
    (0.1994, 0.0927, 0.0458),
    (0.0856, 0.0339, 0.0902),
    (0.0587, 0.0272, -0.0496),
    (-0.0006, 0.1104, 0.0309),
    (0.0978, 0.0306, 0.0427),
    (-0.0042, 0.1038, 0.1358),
    (-0.0194, 0.0020, 0.0669),
    (-0.0488, 0.0130, -0.0268),
    (0.0922, 0.0988, 0.0951),
    (-0.0278, 0.0524, -0.0542),
    (0.0332, 0.0456, 0.0895),
    (-0.0069, -0.0030, -0.0810),
    (-0.0596, -0.0465, -0.0293),
    (-0.1448, -0.1463, -0.1189),
    (0.2394, 0.2135, 0.1925),
)
_FLUX = (
    (-0.0346, 0.0244, 0.0681),
    (0.0034, 0.0210, 0.0687),
    (0.0275, -0.0668, -0.0433),
    (-0.0174, 0.0160, 0.0617),
    (0.0859, 0.0721, 0.0329),
    (0.0004, 0.0383, 0.0115),
    (0.0405, 0.0861, 0.0915),
    (-0.0236, -0.0185, -0.0259),
    (-0.0245, 0.0250, 0.1180),
    (0.1008, 0.0755, -0.0421),
    (-0.0515, 0.0201, 0.0011),
    (0.0428, -0.0012, -0.0036),
    (0.0817, 0.0765, 0.0749),
    (-0.1264, -0.0522, -0.1103),
    (-0.0280, -0.0881, -0.0499),
    (-0.1262, -0.0982, -0.0778),
    (-0.0329, -0.0718, -0.0851),
)
_KNOWN: Mapping[tuple[int, float], tuple[tuple[float, float, float], ...]] = {
    (4, 0.18215): _STABLE_DIFFUSION,
    (4, 0.13025): _STABLE_DIFFUSION_XL,
    (16, 1.5305): _STABLE_DIFFUSION_3,
    (16, 0.3611): _FLUX,
}
