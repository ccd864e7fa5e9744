"""Stand-ins for parts of a pipeline, which let an unmodified pipeline call share its device with others.

The pipeline of a generation is a shallow copy. What it computes with stays shared, and not all of that may be used by
two threads at once: the denoiser and the VAE run in batchers, and `prompts` encodes one prompt at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.configuration_utils import FrozenDict

from generation.engines import side_stream
from generation.engines.batching import Batcher, Member
from generation.engines.rows import Disassembler, tensors

DENOISERS = ("unet", "transformer")
_DRAWS_NO_NOISE = (AutoencoderKL, AutoencoderTiny)


class StandIn:
    """Everything but what a subclass defines is that of the part itself."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class SharedDenoiser(StandIn):
    """A UNet or transformer whose forwards are shared; one per generation."""

    def __init__(
        self, part: Any, *, calls: Disassembler, batcher: Batcher, member: Member, while_waiting: Callable[[], None]
    ) -> None:
        super().__init__(part)
        self._calls = calls
        self._batcher = batcher
        self._member = member
        self._while_waiting = while_waiting

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The denoiser's output for these arguments."""
        call = self._calls.take_apart(*args, **kwargs)
        return self._batcher.run(call, member=self._member, while_waiting=self._while_waiting)


class PlainUnet(StandIn):
    """A UNet that was not made for inpainting, whose latents have other than 4 channels.

    Stable Diffusion's inpainting pipelines know a plain UNet by that very number, and refuse others; they use it for
    nothing else, so it is what they are told: `num_channels_unet` in pipeline_stable_diffusion_inpaint.py.
    """

    def __init__(self, part: Any) -> None:
        super().__init__(part)
        self.config = FrozenDict({**part.config, "in_channels": 4})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The UNet's own output."""
        return self._part(*args, **kwargs)


class SharedVae(StandIn):
    """A VAE that decodes pictures of several generations at once, and runs in one thread only."""

    def __init__(self, part: Any, *, decodes: Disassembler, encodes: Disassembler, batcher: Batcher) -> None:
        super().__init__(part)
        self._decodes = decodes
        self._encodes = encodes
        self._batcher = batcher
        self._decoded: list[torch.Tensor] = []

    def to(self, *args: Any, **kwargs: Any) -> SharedVae:
        """Itself: SDXL's pipelines convert it to float32 and back around a call, while others use it."""
        return self

    def decode(self, z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The pictures of the latents."""
        if isinstance(self._part, _DRAWS_NO_NOISE):
            kwargs.pop("generator", None)  # SD passes it, and it would tell the calls of any two generations apart
        # A VAE that must not run in float16 was loaded in float32, while the latents are still in the denoiser's.
        output = self._batcher.run(self._decodes.take_apart(z.to(self._part.dtype), *args, **kwargs))
        self._decoded = tensors(output)
        return output

    def has_decoded(self, image: torch.Tensor) -> bool:
        """Whether the image is as it came from here: then the device has finished it."""
        return any(image is decoded for decoded in self._decoded)

    def encode(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The latents of pictures."""
        return self._batcher.run(self._encodes.keep_whole(x.to(self._part.dtype), *args, **kwargs))


class DevicePostprocessor(StandIn):
    """An image processor that rounds pictures to bytes on the device, so that a quarter as much is copied.

    `is_finished` tells of an image that nothing has to be waited for; others may still be worked on.
    """

    def __init__(self, part: Any, *, is_finished: Callable[[torch.Tensor], bool]) -> None:
        super().__init__(part)
        self._is_finished = is_finished

    def postprocess(self, image: Any, output_type: str = "pil", do_denormalize: list[bool] | None = None) -> Any:
        """For "np" uint8 (n, height, width, 3), or NaN everywhere if a pixel is none. The rest as it ever was."""
        if output_type != "np" or not isinstance(image, torch.Tensor):
            return self._part.postprocess(image, output_type=output_type, do_denormalize=do_denormalize)

        def in_bytes() -> tuple[torch.Tensor, torch.Tensor]:
            shown = self._part.postprocess(image, output_type="pt", do_denormalize=do_denormalize).float()
            pixels = (shown * 255).round().to(torch.uint8)
            return pixels.permute(0, 2, 3, 1).contiguous(), torch.isfinite(shown).all()

        fetch = side_stream.fetch_finished if self._is_finished(image) else side_stream.fetch
        pixels, is_finite = fetch(in_bytes, device=image.device)
        return pixels.numpy() if is_finite else np.full(tuple(pixels.shape), np.nan)
