"""Going on from a saved state: an ordinary pipeline call that passes over the steps which are already done.

Everything before the loop happens as it did the first time, so that whatever a pipeline keeps there (packed latents,
the noise and the mask of inpainting) is as it was. In the loop the steps up to the saved one are gone through with an
output of the denoiser that is computed only once, and at the end of the saved one everything that they left is
replaced by the saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from generation.engines.denoise_loop import DenoiseLoop
from generation.engines.errors import UnusableState
from generation.engines.standins import DENOISERS, StandIn
from generation.engines.state import SavedState
from generation.engines.types import Pipeline


class Resumption:
    """Makes one call of `pipe` go on from the state; raises UnusableState if it is of another kind of request."""

    def __init__(self, state: SavedState, *, pipe: Pipeline, loop: DenoiseLoop) -> None:
        loop.check(state)
        self._state = state
        self._loop = loop
        self._is_over = False
        parts = vars(pipe)
        for name in DENOISERS:
            if (part := getattr(pipe, name, None)) is not None:
                parts[name] = _IdleDenoiser(part, is_awake=lambda: self._is_over)

    def passes_over(self, step: int) -> bool:
        """Whether this step has been done before."""
        return step <= self._state.step

    def pass_over(self, *, step: int, total: int, latents: object) -> dict[str, object]:
        """What callback_on_step_end returns at the end of such a step. Raises UnusableState."""
        if not isinstance(latents, torch.Tensor):
            raise UnusableState("This model cannot go on from a saved state. Start the generation from the beginning.")
        if step < self._state.step:
            self._loop.compare(self._state, total=total, latents=latents)
            return {}
        self._is_over = True
        return {"latents": self._loop.restore(self._state, total=total, latents=latents)}


class _IdleDenoiser(StandIn):
    """A denoiser that repeats its first output, for inputs of the same shapes, until it is awake."""

    def __init__(self, part: Any, *, is_awake: Callable[[], bool]) -> None:
        super().__init__(part)
        self._is_awake = is_awake
        self._outputs: dict[Hashable, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The denoiser's output, or one like it."""
        if self._is_awake():
            self._outputs.clear()
            return self._part(*args, **kwargs)
        leaves = pytree.tree_leaves((args, kwargs))
        shapes = tuple(tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor))
        if shapes not in self._outputs:
            self._outputs[shapes] = self._part(*args, **kwargs)
        return self._outputs[shapes]
