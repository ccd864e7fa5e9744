"""What can go wrong in the domain.

GenerationError
├── LimitReached        the owner, or the API key in use, has as much already as they may have
├── ServiceFull         as much waits in all as the service takes
├── InvalidParameters   a request that no model could serve as asked; names each field
├── AlreadyFinished     cancel of a generation that has succeeded or failed
├── NotFinished         delete of a generation that still waits or runs
├── NotRetryable        retry of a generation that has not failed and was not cancelled
├── KeyReused           an idempotency key that came with another request before
├── IdTaken             an id of the client's own that a generation of another request has
└── InFlight            the twin of a request that is still being stored
"""

from collections.abc import Mapping, Sequence

from generation.quotas import Quota


class GenerationError(Exception):
    """Base of the domain's errors; the message says what to do."""


class InvalidParameters(GenerationError):
    """Some parameters of a request cannot be used; `fields` maps each to a sentence."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {sentence}" for name, sentence in fields.items()))
        self.fields = dict(fields)


class LimitReached(GenerationError):
    """What is asked for would exceed limits: `exceeded`. `retry_after_seconds` is None where waiting cannot help."""

    def __init__(self, exceeded: Sequence[Quota]) -> None:
        self.exceeded = tuple(exceeded)
        waits = [quota.frees_in_seconds for quota in exceeded]
        self.retry_after_seconds = None if None in waits else max(wait for wait in waits if wait is not None)
        what = "; ".join(
            f"{quota.policy}: {quota.limit} {quota.unit}, this would be {quota.used}" for quota in exceeded
        )
        advice = (
            "It asks for more than that alone. Ask for less."
            if self.retry_after_seconds is None
            else f"Try again in about {self.retry_after_seconds} s, or ask an administrator for more."
        )
        super().__init__(f"More than is allowed ({what}). {advice}")


class ServiceFull(GenerationError):
    """So many generations wait already that the service takes no more for now."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Too many generations wait already. Try again in about {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class AlreadyFinished(GenerationError):
    """Cancel came after the generation had succeeded or failed."""


class NotFinished(GenerationError):
    """Delete came while the generation was waiting or running."""


class NotRetryable(GenerationError):
    """Retry of a generation that has neither failed nor been cancelled."""


class KeyReused(GenerationError):
    """The owner has used this idempotency key for another request."""


class IdTaken(GenerationError):
    """A generation of another request has this id; whose it is, the message does not say."""


class InFlight(GenerationError):
    """Another request with the same key or id is still being stored."""
