"""A saved state in its bytes, to be kept or sent where there is no torch; `state` reads what is inside."""

from __future__ import annotations

import json
from dataclasses import dataclass

from generation.engines.errors import UnusableState

KEY = "pictor.saved_state"


@dataclass(frozen=True, slots=True, eq=False)
class PackedState:
    """What SavedState.to_bytes gave, and the step that it is of."""

    step: int
    total: int
    data: bytes

    @property
    def is_finite(self) -> bool:
        """Whoever packs it has looked."""
        return True

    def to_bytes(self) -> bytes:
        """The bytes, for a file or a database."""
        return self.data

    @classmethod
    def from_bytes(cls, data: bytes) -> PackedState:
        """Raises UnusableState for what does not look like a state; whether it is one, who reads it tells."""
        try:
            header = json.loads(metadata(data)[KEY])
            return cls(int(header["step"]), int(header["total"]), data)
        except (ValueError, KeyError, TypeError) as error:
            raise UnusableState(
                f"This is no saved state that can be read here ({error}). Start the generation from the beginning."
            ) from error


def metadata(data: bytes) -> dict[str, str]:
    """Of a safetensors file; the library reads it from files on disk only."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return found
