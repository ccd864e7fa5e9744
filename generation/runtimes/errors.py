"""What can go wrong between a worker and a server.

EngineError
├── ServerUnavailable   it cannot be reached, or went away in the middle
│   └── ServerBusy      it has as much to do as it takes
├── ServerFailed        it met an error that nobody foresaw
└── BadMessage          what was sent is not what docs/protocol.md says
"""

from __future__ import annotations

from generation.engines.errors import EngineError


class ServerUnavailable(EngineError):
    """Nothing was wrong with the request; another server, or the same one later, may do it."""

    code = "server_unavailable"


class ServerBusy(ServerUnavailable):
    """The server works, and has refused for now; it takes more in `retry_after_seconds`, perhaps."""

    code = "server_busy"

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ServerFailed(EngineError):
    """The server gave an error of its own for this request; its log has the details."""

    code = "server_failed"


class BadMessage(EngineError):
    """The two sides do not understand each other: another version, or no such peer at all."""

    code = "bad_message"
