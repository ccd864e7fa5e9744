"""A module that many generations call, and with whom a call of it may share a forward."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generation.engines.limits import Limits


def nothing_to_save() -> bool:
    """The answer of a model that takes as much memory as it takes."""
    return False


class Company(Enum):
    """With whom the rows of a call may share a forward."""

    ANY = "as many as pay off"
    FIXED = "as many as fill a fixed number of rows, so that the kernels are always the same"
    NONE = "nobody, so that not even the place of a row in the batch changes"


@dataclass(frozen=True, slots=True)
class Callee:
    """What is called: the same for all generations that use it, and told apart by its name.

    `save_memory` is called where a single row does not fit; it is worth another try if that returns True.
    """

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature
    limits: Limits
    fixed_count: int = 1
    save_memory: Callable[[], bool] = nothing_to_save

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str,
        limits: Limits,
        fixed_count: int = 1,
        save_memory: Callable[[], bool] = nothing_to_save,
    ) -> Callee:
        """A module, or a method of one."""
        signature = inspect.signature(getattr(function, "forward", function))
        return cls(name, function, signature, limits, fixed_count, save_memory)
