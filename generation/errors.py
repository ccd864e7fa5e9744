"""What can go wrong in the domain.

GenerationError
├── InvalidParameters   a request that no model could serve as asked; names each field
├── AlreadyFinished     cancel of a generation that has succeeded or failed
├── NotFinished         delete of a generation that still waits or runs
├── NotRetryable        retry of a generation that has not failed and was not cancelled
├── KeyReused           an idempotency key that came with another request before
├── IdTaken             an id of the client's own that a generation of another request has
└── InFlight            the twin of a request that is still being stored
"""

from collections.abc import Mapping


class GenerationError(Exception):
    """Base of the domain's errors; the message says what to do."""


class InvalidParameters(GenerationError):
    """Some parameters of a request cannot be used; `fields` maps each to a sentence."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {sentence}" for name, sentence in fields.items()))
        self.fields = dict(fields)


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
