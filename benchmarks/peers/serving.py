"""What both peers do alike: load the pipeline, and make a PNG of what it drew."""

import io
import sys

import torch
from diffusers import DiffusionPipeline
from PIL.Image import Image


def arguments() -> tuple[str, str, int]:
    """The folder of the model, the device and the port, from the command line."""
    source, device, port = sys.argv[1:4]
    return source, device, int(port)


def load(source: str, device: str) -> DiffusionPipeline:
    """The pipeline as its documentation loads it, in the dtype that Pictor takes on this device."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(source, dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def png(image: Image) -> bytes:
    """The file, with Pillow's defaults but the fastest compression."""
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()
