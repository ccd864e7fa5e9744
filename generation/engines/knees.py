"""The knee: from how many rows on a larger batch only makes everybody wait longer, measured and remembered."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from generation.engines.notebook import Notebook
from generation.engines.rows import Call

logger = logging.getLogger(__name__)

DOUBLINGS = (1, 2, 4, 8, 16, 32)
LEAST_GAIN = 0.04  # of the time per row, for twice the rows
MOST_SECONDS = 3.0
SHORTAGE_SECONDS = 24 * 3600  # how long a shortage of memory is remembered: whatever else took it may be gone

# What notes begin with, before the name of a shape.
_KNEE = "knee of "
_FITS = "fits "

# What notes begin with, before the name of a part.
_ENOUGH = "latents at the knee of "
_USUAL = "latents in a row of "


class Knees:
    """How many rows may share a forward, by the shape of a row.

    It is measured for one shape. Of another as many rows fill the device as have together as many latents, about:
    attention, which grows faster, fills it sooner. Beyond DOUBLINGS nobody has looked. Where memory ran out fewer share
    a forward for a while.
    """

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook

    def of(self, call: Call) -> int | None:
        """The knee for calls like this one, if it is known, or else what is expected of it."""
        return _least(self._measured(call.shape) or self._expected(call), self._fitting(call.shape))

    def all_of(self, name: str) -> dict[str, int]:
        """Every knee of the model of this name, by the part and the shape of a row."""
        noted = [
            shape.removeprefix(kind) for kind in (_KNEE, _FITS) for shape in self._notebook.all_under(f"{kind}{name} ")
        ]
        known = {shape.removeprefix(f"{name} "): _least(self._measured(shape), self._fitting(shape)) for shape in noted}
        return {shape: rows for shape, rows in sorted(known.items()) if rows is not None}

    def usual_latents(self, name: str) -> int:
        """The latents in a row of the shape that was measured of the part of this name; 0 if none was."""
        return _number(self._notebook.get(f"{_USUAL}{name}")) or 0

    def measure(self, call: Call, *, seconds_of: Callable[[Call], float]) -> None:
        """Find the knee by trying; `seconds_of` runs a call and returns how long it took, or raises MemoryError.

        What did not fit is taken for the knee, and its half for what fits for now: that may change, the knee stays.
        """
        row = call.part(0, 1)
        best, per_row, spent = 1, float("inf"), 0.0
        for count in DOUBLINGS:
            try:
                seconds = seconds_of(row.padded(count))
            except MemoryError:
                self.lower(call, count // 2)
                best = count
                break
            if seconds / count > per_row * (1 - LEAST_GAIN):
                break
            best, per_row = count, seconds / count
            spent += seconds
            if spent + 2 * seconds > MOST_SECONDS:
                break
        self._notebook.put(f"{_KNEE}{call.shape}", best)
        self._notebook.put(f"{_ENOUGH}{call.layout.callee.name}", best * _latents_of(call))
        self._notebook.put(f"{_USUAL}{call.layout.callee.name}", _latents_of(call))
        logger.info("%s: %s rows share a forward, %.1f ms a row.", call.shape, self.of(call), 1000 * per_row)

    def most_in_memory(self, call: Call) -> int | None:
        """What fitted after memory had run out; a call is not split for the knee, so its bits do not depend on it."""
        return self._fitting(call.shape)

    def may_hold(self, call: Call, count: int) -> bool:
        """Whether memory has not run out for so many rows."""
        fitting = self.most_in_memory(call)
        return fitting is None or count <= fitting

    def lower(self, call: Call, count: int) -> None:
        """Note that the memory does not hold more than this now."""
        self._notebook.put(f"{_FITS}{call.shape}", {"rows": max(1, count), "at": time.time()})

    def forget_shortage(self, call: Call) -> None:
        """Forget that memory ran out for calls like this one."""
        if self._fitting(call.shape) is not None:
            self._notebook.put(f"{_FITS}{call.shape}", None)

    def _measured(self, shape: str) -> int | None:
        return _number(self._notebook.get(f"{_KNEE}{shape}"))

    def _fitting(self, shape: str) -> int | None:
        match self._notebook.get(f"{_FITS}{shape}"):
            case {"rows": rows, "at": float(at)} if time.time() - at < SHORTAGE_SECONDS:
                return _number(rows)
        return None

    def _expected(self, call: Call) -> int | None:
        enough = _number(self._notebook.get(f"{_ENOUGH}{call.layout.callee.name}"))
        return max(1, min(DOUBLINGS[-1], enough // _latents_of(call))) if enough is not None else None


def _number(noted: Any) -> int | None:
    """What a file says, which anybody may have written, if it is a number of rows or latents."""
    return noted if isinstance(noted, int) and noted > 0 else None


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)


def _latents_of(call: Call) -> int:
    """The numbers in a row of what is denoised, the first parameter."""
    return call.rows[0][0].numel()


class PixelBudget:
    """How many pictures a VAE decodes at once: its memory grows with their pixels, and so does its time."""

    def __init__(self, *, pixels_per_latent: int, most_pixels: int = 1024 * 1024) -> None:
        self._latents = most_pixels // pixels_per_latent
        self._lowered: dict[str, int] = {}

    def of(self, call: Call) -> int | None:
        """As many as the pixels allow, at least one."""
        latents = call.rows[0] if call.can_share else None
        if not isinstance(latents, torch.Tensor):
            return 1
        return self._lowered.get(call.shape) or max(1, self._latents // math.prod(latents.shape[-2:]))

    def most_in_memory(self, call: Call) -> int | None:
        """The same for the pictures of one generation."""
        return self.of(call)

    def lower(self, call: Call, count: int) -> None:
        """Never more than `count` from now on: memory ran out."""
        self._lowered[call.shape] = max(1, count)


class OneAtATime:
    """For calls that never share a forward."""

    def of(self, call: Call) -> int:
        """One."""
        return 1

    def most_in_memory(self, call: Call) -> None:
        """They are never split."""

    def lower(self, call: Call, count: int) -> None:
        """It cannot become less."""
