"""What can go wrong between a worker and the servers of its pool.

EngineError
├── ServerUnavailable   a server does not answer, or went away in the middle
│   └── ServerBusy      it has as much to do as it takes
└── ServerFailed        it answers, with a failure that nobody foresaw
"""

from __future__ import annotations

from generation.engines.errors import EngineError


class ServerUnavailable(EngineError):
    """Nothing was wrong with the request; another server, or the same one later, may do it."""

    code = "server_unavailable"


class ServerBusy(ServerUnavailable):
    """The server works, and has refused for now."""


class ServerFailed(EngineError):
    """The server gave an error of its own for this request."""

    code = "server_failed"
