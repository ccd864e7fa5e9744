"""The state of a generation between two denoise steps, to go on from: here, later, or on another machine.

Its bytes are a safetensors file (https://github.com/huggingface/safetensors#format) whose metadata holds what is not a
tensor as JSON. Reading it runs no code, unlike unpickling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from generation.engines.errors import UnusableState
from generation.engines.packed_state import KEY, metadata

VERSION = 1
_PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True, eq=False)
class SavedState:
    """What is true after `step` of `total` denoise steps; all tensors are on the host.

    `scheduler` is the name of its class; `attributes` are those of its attributes that change while it works. There is
    one generator state per image.
    """

    step: int
    total: int
    scheduler: str
    attributes: Mapping[str, Any]
    latents: torch.Tensor
    generators: tuple[torch.Tensor, ...]

    @property
    def is_finite(self) -> bool:
        """Whether the latents are numbers."""
        return bool(self.latents.isfinite().all())

    def to_bytes(self) -> bytes:
        """For a file or a database; from_bytes gives an equal state, to the last bit."""
        tensors: dict[str, torch.Tensor] = {}
        header = {
            "version": VERSION,
            "step": self.step,
            "total": self.total,
            "scheduler": self.scheduler,
            "attributes": _pack(dict(self.attributes), tensors),
            "latents": _pack(self.latents, tensors),
            "generators": _pack(list(self.generators), tensors),
        }
        return safetensors.torch.save(tensors, metadata={KEY: json.dumps(header)})

    @classmethod
    def from_bytes(cls, data: bytes) -> SavedState:
        """Raises UnusableState for anything that to_bytes of this version has not made."""
        try:
            tensors = safetensors.torch.load(data)
            header = json.loads(metadata(data)[KEY])
            if header["version"] != VERSION:
                raise ValueError(f"its version is {header['version']}, not {VERSION}")
            state = cls(
                step=header["step"],
                total=header["total"],
                scheduler=header["scheduler"],
                attributes=_unpack(header["attributes"], tensors),
                latents=_unpack(header["latents"], tensors),
                generators=tuple(_unpack(header["generators"], tensors)),
            )
            if not 0 < state.step < state.total:
                raise ValueError(f"there is no step {state.step} of {state.total} to go on from")
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise UnusableState(
                f"This is no saved state that can be read here ({error}). Start the generation from the beginning."
            ) from error
        return state


def is_storable(value: Any) -> bool:
    """Whether a value can be part of a state: numbers, texts, tensors, and lists, tuples and dicts of them."""
    if type(value) in (list, tuple):
        return all(is_storable(entry) for entry in value)
    if type(value) is dict:
        return all(isinstance(name, str) and is_storable(entry) for name, entry in value.items())
    if isinstance(value, torch.Tensor):
        return not value.is_complex()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "biuf"
    return isinstance(value, _PLAIN)


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The value as JSON, in which the names of tensors stand for them; the tensors are added to `tensors`."""
    match value:
        case torch.Tensor():
            name = str(len(tensors))
            # A channels-last tensor has to come back as one: kernels round differently for other strides.
            strides = value.stride()
            order = sorted(range(value.ndim), key=lambda dim: -strides[dim])
            tensors[name] = value.permute(order).contiguous()
            return {"tensor": name, "order": order}
        case np.ndarray() | np.generic():
            return {"array": _pack(torch.from_numpy(np.array(value)), tensors)["tensor"]}
        case list():
            return [_pack(entry, tensors) for entry in value]
        case tuple():
            return {"tuple": [_pack(entry, tensors) for entry in value]}
        case dict():
            return {"dict": {name: _pack(entry, tensors) for name, entry in value.items()}}
        case _:
            return value


def _unpack(packed: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    match packed:
        case {"tensor": name, "order": order}:
            return tensors[name].permute([order.index(dim) for dim in range(len(order))])
        case {"array": name}:
            return tensors[name].numpy()[()]
        case {"tuple": entries}:
            return tuple(_unpack(entry, tensors) for entry in entries)
        case {"dict": entries}:
            return {name: _unpack(entry, tensors) for name, entry in entries.items()}
        case list():
            return [_unpack(entry, tensors) for entry in packed]
        case _:
            return packed
