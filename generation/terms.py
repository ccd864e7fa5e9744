"""The terms of a request: how it is to be handled. Nothing of it changes what is drawn."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from generation.errors import InvalidParameters
from generation.models.webhook import Kind
from generation.parameters import Wishes
from generation.webhooks import addresses

SHORTEST_DEADLINE_SECONDS = 1
LONGEST_DEADLINE_SECONDS = 7 * 24 * 3600
NAMES = ("id", "idempotency_key")  # what a request goes by is no part of what it asks for


class OnDisconnect(StrEnum):
    """What becomes of a generation whose client hangs up while it waits for the answer."""

    CONTINUE = "continue"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a client wants besides pictures."""

    id: UUID | None = None
    idempotency_key: str = ""
    deadline_seconds: float | None = None
    start_within_seconds: float | None = None
    on_disconnect: str = OnDisconnect.CONTINUE
    webhook_url: str = ""
    webhook_events: tuple[str, ...] | None = None
    webhook_words: str = ""  # the dialect in which to tell, and our address for links in it


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the pictures and the terms."""

    wishes: Wishes
    terms: Terms = Terms()

    def told(self) -> dict[str, object]:
        """All that was asked for and is not as it would be anyway; new members change nothing for old requests."""
        return {
            field.name: value
            for part in (self.wishes, self.terms)
            for field in fields(part)
            if field.name not in NAMES and (value := getattr(part, field.name)) != field.default
        }


def fingerprint(*requests: Asked) -> str:
    """The SHA-256 of what is asked for: the same for the same requests, however their bodies were spelt."""
    told = [request.told() for request in requests]
    return sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def check_terms(terms: Terms) -> None:
    """Raise InvalidParameters naming each term that cannot be kept."""
    if faults := dict(find_faults(terms)):
        raise InvalidParameters(faults)


def find_faults(terms: Terms) -> Iterator[tuple[str, str]]:
    """Each term that cannot be kept, with a sentence that says what could be."""
    if terms.webhook_url and (fault := addresses.fault_of(terms.webhook_url)):
        yield "webhook_url", fault
    if not set(terms.webhook_events or ()) <= set(Kind):
        yield "webhook_events", f"They must be among {', '.join(Kind)}."
    for name in ("deadline_seconds", "start_within_seconds"):
        seconds = getattr(terms, name)
        if seconds is not None and not SHORTEST_DEADLINE_SECONDS <= seconds <= LONGEST_DEADLINE_SECONDS:
            bounds = f"{SHORTEST_DEADLINE_SECONDS} and {LONGEST_DEADLINE_SECONDS}"
            yield name, f"{seconds:g} is not between {bounds} seconds."
