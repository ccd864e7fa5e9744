"""Where a picture to begin with comes from."""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID


@dataclass(frozen=True, slots=True, repr=False)
class Upload:
    """The bytes of a picture's file, not looked at yet; an alpha mask says by transparency where to paint."""

    data: bytes
    is_alpha_mask: bool = False

    def __repr__(self) -> str:
        """Equal for equal files, and short: requests are compared by it."""
        return f"Upload({sha256(self.data).hexdigest()}, is_alpha_mask={self.is_alpha_mask})"


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A picture that was uploaded before."""

    id: UUID


@dataclass(frozen=True, slots=True)
class EarlierImage:
    """A result of an earlier generation."""

    generation_id: UUID
    index: int


Source = Upload | StoredInput | EarlierImage
