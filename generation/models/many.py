"""Verbs for many generations at once, each one UPDATE with the same guards as the verbs for one."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from generation.lifecycle import WITHDRAW
from generation.models.generation import Generation
from generation.models.receipts import withdrawn


def beat(steps: dict[UUID, tuple[int, int, int]], *, lease: timedelta) -> dict[UUID, bool]:
    """Renew the lease of every claim in `steps` (claim token -> step, total, saved step) and note its progress.

    Returns, for each claim that still holds, whether its cancel was requested; lost claims are missing.
    """
    held = Generation.objects.running().filter(claim_token__in=steps)
    by_claim = {
        field: models.Case(
            *(models.When(claim_token=token, then=models.Value(of_claim[place])) for token, of_claim in steps.items()),
            default=F(field),
            output_field=models.PositiveIntegerField(),
        )
        for place, field in enumerate(("step", "total_steps", "saved_step"))
    }
    held.update(lease_until=Now() + lease, **by_claim)
    cancels = dict(held.values_list("claim_token", "cancel_requested_at"))
    return {token: cancels[token] is not None for token in steps if token in cancels}


def hold_messages(ids: Iterable[UUID], *, lease: timedelta) -> int:
    """Put off making the messages of these anew: a worker has them, and gets ready. Returns how many still wait."""
    waiting = Generation.objects.filter(pk__in=list(ids), status=WITHDRAW.source, redispatch_at__isnull=False)
    return waiting.update(redispatch_at=Now() + lease)


def withdraw_all(ids: Iterable[UUID]) -> int:
    """Cancel those that wait; returns how many did."""
    waiting = Generation.objects.filter(pk__in=list(ids), status=WITHDRAW.source)
    return waiting.update(status=WITHDRAW.target, **withdrawn())
