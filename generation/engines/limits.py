"""What is asked of whoever knows how many rows a forward should have; `knees` holds those who do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from generation.engines.rows import Call


class Limits(Protocol):
    """How many rows should share a forward, by the shape of a row."""

    def of(self, call: Call) -> int | None:
        """The number for calls like this one, if it is known."""

    def most_in_memory(self, call: Call) -> int | None:
        """How many rows of a single call may be in one forward, if the memory does not hold any number."""

    def lower(self, call: Call, count: int) -> None:
        """Note that the memory does not hold more than this."""
