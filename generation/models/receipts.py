"""Receipts of cancels: what is written beside the status says why, how and when something stopped."""

from datetime import timedelta
from typing import Any

from django.db.models import Case, F, Value, When
from django.db.models.functions import Coalesce, Now

from generation.lifecycle import CancelReason, SeenBy


def withdrawn(reason: CancelReason = CancelReason.REQUEST) -> dict[str, Any]:
    """Of one that waited: nothing ran, so the withdrawal is its own receipt."""
    return {
        "cancel_reason": reason,
        "cancel_requested_at": Now(),
        "finished_at": Now(),
        "cancel_seen_by": SeenBy.WAITING,
    }


def stopped(*, reason: CancelReason, seen_by: SeenBy, freed_seconds_ago: float) -> dict[str, Any]:
    """Of one that ran: `reason` counts only where none was noted before."""
    return {
        "cancel_reason": Case(When(cancel_reason="", then=Value(reason)), default=F("cancel_reason")),
        "cancel_requested_at": Coalesce("cancel_requested_at", Now()),
        "cancel_seen_by": seen_by,
        "device_freed_at": Now() - timedelta(seconds=freed_seconds_ago),
    }
