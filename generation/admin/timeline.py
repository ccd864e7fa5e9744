"""The timeline of one generation: everything that its rows know about what happened to it, in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString

from generation.admin import durations, labels
from generation.models import Attempt, Generation


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    moment: datetime
    title: str
    detail: str = ""
    label: SafeString | None = None

    @property
    def at(self) -> str:
        """Its date and time."""
        return durations.at(self.moment)


def events(generation: Generation) -> list[Event]:
    """Accepted, dispatched, each attempt, the request to cancel, the end; oldest first."""
    before_the_end = [*requests(generation), *attempts(generation)]
    return [*sorted(before_the_end, key=lambda event: event.moment), *end(generation)]


def requests(generation: Generation) -> Iterator[Event]:
    """What was asked of it, and the message that was sent for it last."""
    yield Event(generation.created_at, "Accepted", f"by {generation.owner}")
    if generation.dispatched_at is not None:
        detail = f"message {generation.dispatch_no} went to the broker"
        yield Event(generation.dispatched_at, "Dispatched", detail)
    if generation.cancel_requested_at is not None:
        yield Event(generation.cancel_requested_at, "Cancel requested")
    if generation.device_freed_at is not None:
        took = durations.between(generation.cancel_requested_at, generation.device_freed_at)
        yield Event(generation.device_freed_at, "Device free", f"after {took}, seen by {generation.cancel_seen_by}")
    if generation.expired_at is not None:
        yield Event(generation.expired_at, "Images removed", "for they were old")


def attempts(generation: Generation) -> Iterator[Event]:
    """The start of each attempt and, when it has ended, its end."""
    for attempt in generation.attempts.all():
        title = f"Attempt {attempt.number}"
        yield Event(attempt.started_at, f"{title} started", "; ".join(circumstances(attempt)))
        if attempt.ended_at is not None:
            label = labels.of_outcome(attempt.outcome)
            yield Event(attempt.ended_at, f"{title} ended", "; ".join(measurements(attempt)), label)


def circumstances(attempt: Attempt) -> Iterator[str]:
    """Where an attempt began, and at which step."""
    yield f"on {attempt.worker}" + (f", over {attempt.runtime}" if attempt.runtime else "")
    if attempt.resumed_from_step is not None:
        yield f"went on from step {attempt.resumed_from_step}"
    if attempt.start_note:
        yield f"from the beginning: {attempt.start_note}"


def end(generation: Generation) -> Iterator[Event]:
    """The end, if it is over: apart from the rest, for the last attempt ends at the same moment."""
    if generation.finished_at is not None:
        label = labels.of_status(generation.status)
        yield Event(generation.finished_at, "Finished", with_code(generation), label)


def measurements(attempt: Attempt) -> Iterator[str]:
    """What is known about an attempt that has ended."""
    yield f"after {durations.between(attempt.started_at, attempt.ended_at)}"
    if attempt.step is not None:
        yield f"{attempt.step} steps"
    if attempt.pipeline_seconds is not None:
        yield f"{attempt.pipeline_seconds:.2f} s in the pipeline"
    if attempt.wait_ms is not None:
        ways = {"serialise": attempt.serialise_ms, "transfer": attempt.transfer_ms, "wait": attempt.wait_ms}
        yield ", ".join(f"{value:.1f} ms to {name}" for name, value in ways.items() if value is not None)
    if attempt.store_seconds is not None:
        yield f"{attempt.store_seconds:.2f} s to store"
    if attempt.peak_memory_bytes is not None:
        yield f"at most {attempt.peak_memory_bytes / 1024**3:.1f} GiB of memory"
    if attempt.error_detail:
        yield with_code(attempt)


def with_code(row: Generation | Attempt) -> str:
    """The error's sentence with its code, or nothing."""
    return f"{row.error_detail} ({row.error_code})" if row.error_code else row.error_detail
