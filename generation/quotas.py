"""A quota: one limit on what somebody may have, and how much of it is used."""

from dataclasses import dataclass
from enum import StrEnum


class Policy(StrEnum):
    """What is limited; a limit of the API key in use has `key-` before its name."""

    WAITING = "waiting"
    UNFINISHED = "unfinished"
    EVENT_STREAMS = "event-streams"
    PIXEL_STEPS = "pixel-steps-per-day"
    REQUESTS = "requests-per-minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a user, or one key of theirs, may have; None means that nothing is limited."""

    waiting: int | None = None
    unfinished: int | None = None
    running: int | None = None
    event_streams: int | None = None
    pixel_steps_per_day: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a program authenticated with: a name that tells it from the user's others, and its own limits."""

    name: str
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One limit in force. `used` counts what is asked for just now, so it may be more than the limit."""

    policy: str
    limit: int
    used: int
    asked: int
    unit: str
    window_seconds: int | None = None
    frees_in_seconds: int | None = None

    @property
    def is_exceeded(self) -> bool:
        """Whether what is asked for is too much."""
        return self.used > self.limit

    @property
    def can_ever_fit(self) -> bool:
        """Whether waiting helps."""
        return self.asked <= self.limit

    @property
    def remaining(self) -> int:
        """What may still be asked for."""
        return max(0, self.limit - self.used)
