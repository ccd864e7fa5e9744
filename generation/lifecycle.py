"""The life of a generation: its statuses, who may follow whom, and how an attempt can end.

    queued ──claim──► running ──succeed──► succeeded
      ▲                 │ ├────fail─────► failed
      └─release, rescue─┘ └───cancel────► cancelled ◄──withdraw── queued

`succeeded`, `failed` and `cancelled` are final. That somebody asked a running generation to stop is a field
(`cancel_requested_at`), not a status: until the worker has stopped, it runs.
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where a generation is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How an attempt ended; `RUNNING` until it has."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    LOST = "lost"


class CancelReason(StrEnum):
    """Why a generation was asked to end before its time."""

    REQUEST = "request"
    DEADLINE = "deadline"
    DISCONNECT = "disconnect"


class SeenBy(StrEnum):
    """By which way it was seen that a generation has to stop."""

    WAITING = "waiting"  # nothing ran: it ended with the request itself
    REVOKE = "revoke"  # Celery's broadcast, at the next step
    FLAG = "flag"  # the row, at a beat or at the commit
    DEADLINE = "deadline"  # its time was over
    LOSS = "loss"  # its worker died before it could see anything


class Transition(NamedTuple):
    """One allowed step: the status it starts from and the one it leads to."""

    source: Status
    target: Status


CLAIM = Transition(Status.QUEUED, Status.RUNNING)
SUCCEED = Transition(Status.RUNNING, Status.SUCCEEDED)
FAIL = Transition(Status.RUNNING, Status.FAILED)
CANCEL = Transition(Status.RUNNING, Status.CANCELLED)
WITHDRAW = Transition(Status.QUEUED, Status.CANCELLED)
RELEASE = Transition(Status.RUNNING, Status.QUEUED)

FINISHED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
STATUS_CHOICES = [(status.value, status.value) for status in Status]
CANCEL_REASON_CHOICES = [(reason.value, reason.value) for reason in CancelReason]
OUTCOME_CHOICES = [(outcome.value, outcome.value) for outcome in Outcome]
SEEN_BY_CHOICES = [(seen_by.value, seen_by.value) for seen_by in SeenBy]
