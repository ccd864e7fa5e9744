"""What a remote runtime needs of the way to its server, whatever that is made of."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

from generation.runtimes.frames import Frame, Kind


class Call(Protocol):
    """A generation on its way; to leave the block before its last frame was read is to hang up."""

    sent_at: float  # on time.perf_counter's clock, in seconds

    def __enter__(self) -> Call:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the connection for the next one, or close it."""

    def next(self) -> Frame:
        """The next frame; waits for it."""

    def ask(self, kind: Kind) -> None:
        """Wish for a CANCEL, PREVIEW or SAVE."""


class Link(Protocol):
    """Connections to one server. Any thread may call any method; failures are EngineError."""

    address: str

    def question(self, kind: Kind, header: dict[str, Any]) -> dict[str, Any]:
        """Ask something that is answered by JSON, or by an error, which is raised."""

    def start(self, frame: Frame) -> Call:
        """Send a GENERATE. Raises what the server answers instead of beginning with it."""

    def close(self) -> None:
        """Close what is open and not in use."""
