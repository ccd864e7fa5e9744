"""Keeps a scheduler's arithmetic with single numbers in main memory, where it waits for nobody.

UniPC sends each of its coefficients to the GPU and solves two equations there at every step. Each of these copies, and
the solving, waits until all that was launched so far is done, so that no generation could be ahead of the device.
In half precision that is a little more exact than plain diffusers: the GPU takes a number from main memory unrounded.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

SENDING = {"UniPCMultistepScheduler"}


class HostScalars(TorchFunctionMode):
    """In the block numbers, which are tensors without dimension, stay in main memory; others leave it without waiting.

    Operations take a number from there together with tensors of any device.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch in place of each of its functions."""
        kwargs = kwargs or {}
        if func is torch.Tensor.to and isinstance(device := args[-1], torch.device) and args[0].device.type == "cpu":
            return sent(args[0], device) if args[0].ndim else args[0]
        if func is torch.ones and args[0] == ():
            kwargs = kwargs | {"device": "cpu"}
        return func(*args, **kwargs)


def keep_scalars_on_host(scheduler: Any) -> None:
    """Have `step` of a scheduler that sends its numbers to the device leave them where they are."""
    if type(scheduler).__name__ not in SENDING:
        return
    step = scheduler.step

    @wraps(step)  # pipelines look at its signature
    def with_scalars_on_host(*args: Any, **kwargs: Any) -> Any:
        with HostScalars():
            return step(*args, **kwargs)

    scheduler.step = with_scalars_on_host


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same there; from pinned memory, for any other copy waits for what the GPU does."""
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
