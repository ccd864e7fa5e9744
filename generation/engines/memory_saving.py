"""What a model does with less memory, one measure after another, once a single row of it does not fit.

Each measure lasts until the model is loaded anew. Pictures decoded in tiles may have faint seams, and text encoders
that are fetched for each new prompt take a moment longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from generation.engines.prompts import PromptEncoder
from generation.engines.types import Pipeline

logger = logging.getLogger(__name__)

_TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")


class MemorySaving:
    """The measures of one model; only the thread that ran out of memory calls them."""

    def __init__(
        self, pipe: Pipeline, *, prompts: PromptEncoder, device: torch.device, when_tiled: Callable[[], None]
    ) -> None:
        self._pipe = pipe
        self._prompts = prompts
        self._device = device
        self._when_tiled = when_tiled
        self._has_tiled = False
        self._has_moved = False

    def for_denoising(self) -> bool:
        """Whether there was a measure left that a denoiser gains from; it is taken now."""
        return self._move_encoders()

    def for_decoding(self) -> bool:
        """The same for a VAE."""
        return self._decode_in_tiles() or self._move_encoders()

    def _decode_in_tiles(self) -> bool:
        enable = getattr(getattr(self._pipe, "vae", None), "enable_tiling", None)
        if self._has_tiled or enable is None:
            return False
        self._has_tiled = True
        try:
            enable()
        except NotImplementedError:  # diffusers' own answer of a VAE that cannot
            return False
        logger.warning("Out of memory: from now on large pictures are decoded in tiles.")
        self._when_tiled()
        return True

    def _move_encoders(self) -> bool:
        parts = (getattr(self._pipe, name, None) for name in _TEXT_ENCODERS)
        encoders = [part for part in parts if isinstance(part, torch.nn.Module)]
        if self._has_moved or not encoders:
            return False
        self._has_moved = True
        self._prompts.keep_in_main_memory(encoders, device=self._device)
        logger.warning("Out of memory: from now on text encoders are in main memory between two prompts.")
        return True
