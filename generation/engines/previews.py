"""Previews: small pictures of what a generation is about to become, one pixel per latent."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from generation.engines import projections
from generation.engines.denoised import LastStep
from generation.engines.projections import Projection
from generation.engines.side_stream import start_fetch

logger = logging.getLogger(__name__)


class Previewer:
    """Draws previews with one model, for any number of generations at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._projection: Projection | None = None
        self._is_searched = False

    def start(
        self, step: LastStep, *, pipe: Any, width: int, height: int, device: torch.device
    ) -> Callable[[], np.ndarray | None] | None:
        """Begin to draw the first image; what is returned waits for the device, in any thread: uint8 (h, w, 3).

        None, from either, for a pipeline, scheduler or VAE that it knows no way for. `width` and `height` are the
        image's own, in pixels. The first call may take as long as encoding a few pictures, as unknown VAEs are tried.
        """
        projection = self._find_projection(pipe, device=device)
        foresee = step.foresight()
        if projection is None or foresee is None:
            return None

        def project() -> list[torch.Tensor]:
            latents = foresee()
            if latents is not None:
                latents = _as_map(latents[:1], pipe=pipe, width=width, height=height)
            if latents is None or latents.shape[1] != len(projection.factors):
                return []
            return [projection(latents[0])]

        fetch = start_fetch(project, device=device)

        def finish() -> np.ndarray | None:
            pictures = fetch()
            return pictures[0].numpy() if pictures else None

        return finish

    def _find_projection(self, pipe: Any, *, device: torch.device) -> Projection | None:
        with self._lock:
            if not self._is_searched:
                projection = _search(pipe, device=device)
                self._projection = projection.to(device) if projection is not None else None
                self._is_searched = True
            return self._projection


def _search(pipe: Any, *, device: torch.device) -> Projection | None:
    vae = getattr(pipe, "vae", None)
    if vae is None:
        return None
    try:
        return projections.known(vae.config) or projections.fit(
            vae, pixels_per_latent=getattr(pipe, "vae_scale_factor", 8), device=device
        )
    except Exception:  # previews are an ornament: no VAE, however odd, may end a generation by them
        logger.warning("%s gets no previews: its VAE could not be tried.", type(pipe).__name__, exc_info=True)
        return None


def _as_map(latents: torch.Tensor, *, pipe: Any, width: int, height: int) -> torch.Tensor | None:
    """Latents (1, channels, h, w), from packed ones by the pipeline's own helper; None if they cannot be told."""
    if latents.ndim == 3:
        unpack = getattr(pipe, "_unpack_latents", None)
        if unpack is None or [*inspect.signature(unpack).parameters] != [
            "latents",
            "height",
            "width",
            "vae_scale_factor",
        ]:
            return None
        side = 2 * pipe.vae_scale_factor
        if latents.shape[1] != (height // side) * (width // side):
            return None  # a pipeline that draws in another size, or appends latents of other pictures
        latents = unpack(latents, height, width, pipe.vae_scale_factor)
    if latents.ndim == 5 and latents.shape[2] == 1:
        latents = latents[:, :, 0]  # made by a model of videos, of which a picture is one frame
    return latents if latents.ndim == 4 else None
