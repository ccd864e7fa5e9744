"""The denoise loop of one pipeline call: what changes in it from step to step, to be saved and to be restored.

Latents go in and out through callback_on_step_end, which all pipelines of diffusers let replace them. The rest is in
the scheduler and in the generators, which some schedulers draw noise from at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from generation.engines.errors import UnusableState
from generation.engines.side_stream import start_fetch
from generation.engines.state import SavedState, is_storable

_FROM_THE_BEGINNING = "Start the generation from the beginning."


class DenoiseLoop:
    """Made before the pipeline is called, as it takes what the scheduler has then for unchanging."""

    def __init__(self, scheduler: Any, *, generators: Sequence[torch.Generator]) -> None:
        self._scheduler = scheduler
        self._generators = generators
        self._constants = {name: value for name, value in vars(scheduler).items() if _is_replaced_to_change(value)}

    def copy(self, *, step: int, total: int, latents: torch.Tensor) -> Callable[[], SavedState] | None:
        """Begin to copy the state after the step; what is returned waits for the device and has it, in any thread.

        None if something that changes in the scheduler cannot be part of a state.
        """
        changing = {
            name: value
            for name, value in vars(self._scheduler).items()
            if name not in self._constants or self._constants[name] is not value
        }
        if not is_storable(changing):
            return None
        leaves, tree = pytree.tree_flatten({"attributes": changing, "latents": latents})
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if latents.is_cuda:  # the next step may write into them before they are copied to the host
            tensors = [tensor.clone() for tensor in tensors]
        is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        others = [None if isinstance(leaf, torch.Tensor) else _copied(leaf) for leaf in leaves]
        generators = tuple(generator.get_state() for generator in self._generators)
        fetch = start_fetch(lambda: tensors, device=latents.device)

        def finish() -> SavedState:
            copies = iter(fetch())
            merged = [next(copies) if is_copy else other for is_copy, other in zip(is_tensor, others, strict=True)]
            return SavedState(
                step=step,
                total=total,
                scheduler=type(self._scheduler).__name__,
                generators=generators,
                **pytree.tree_unflatten(merged, tree),
            )

        return finish

    def check(self, state: SavedState) -> None:
        """Raise UnusableState if the state is that of another scheduler or number of images."""
        name = type(self._scheduler).__name__
        if state.scheduler != name:
            raise UnusableState(f"The saved state is one of {state.scheduler}, not {name}. {_FROM_THE_BEGINNING}")
        if len(state.generators) != len(self._generators):
            raise UnusableState(
                f"The saved state is one of {len(state.generators)} images, not {len(self._generators)}. "
                f"{_FROM_THE_BEGINNING}"
            )

    def restore(self, state: SavedState, *, total: int, latents: torch.Tensor) -> torch.Tensor:
        """Be as after the saved step; returns the latents of then. Raises UnusableState as `compare` does."""
        self.compare(state, total=total, latents=latents)
        for name, value in state.attributes.items():
            # What was on the host has to stay there: schedulers take single numbers out of their sigmas.
            present = getattr(self._scheduler, name, None)
            device = present.device if isinstance(present, torch.Tensor) else latents.device
            send = partial(_sent, device=device, like=state.latents, dtype=latents.dtype)
            setattr(self._scheduler, name, pytree.tree_map(send, value))
        for generator, generator_state in zip(self._generators, state.generators, strict=True):
            generator.set_state(generator_state)
        return state.latents.to(latents, copy=True)  # aligned, unlike what is read from bytes

    def compare(self, state: SavedState, *, total: int, latents: torch.Tensor) -> None:
        """Raise UnusableState if the state is that of another loop than this one, at whatever step it is."""
        saved, present = (_in_words(state.total, state.latents), _in_words(total, latents))
        if saved != present:
            raise UnusableState(f"The saved state has {saved}, the request {present}. {_FROM_THE_BEGINNING}")
        timesteps = state.attributes.get("timesteps")
        ours = self._scheduler.timesteps.cpu()
        # Not equal to the last bit: another processor may have computed them.
        if isinstance(timesteps, torch.Tensor) and not (
            timesteps.shape == ours.shape and torch.allclose(timesteps.double(), ours.double(), rtol=1e-4, atol=1e-3)
        ):
            raise UnusableState(f"The saved state has another noise schedule. {_FROM_THE_BEGINNING}")


def _in_words(total: int, latents: torch.Tensor) -> str:
    """Both in words, to be compared and read; the dtype is the device's own affair."""
    return f"{total} steps and latents of shape {tuple(latents.shape)}"


def _is_replaced_to_change(value: Any) -> bool:
    """Schedulers write into lists and numbers; their tensors and their configuration they only replace."""
    return isinstance(value, (torch.Tensor, np.ndarray, Mapping)) or callable(value)


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _sent(leaf: Any, *, device: torch.device, like: torch.Tensor, dtype: torch.dtype) -> Any:
    """A copy on the device; of what is like the latents, in their dtype there."""
    if not isinstance(leaf, torch.Tensor):
        return _copied(leaf)
    is_alike = leaf.shape == like.shape and leaf.dtype == like.dtype
    return leaf.to(device, dtype if is_alike else leaf.dtype, copy=True)
