"""Admission: whether there is room for what is asked for. Decided in the transaction that creates it.

Near a limit the transactions of one user take turns: on PostgreSQL by a lock on the user's row, on SQLite because only
one may write at a time. So of two requests that race for the last place, the second sees what the first has stored.
Far from it nobody waits: by `MARGIN`, which is room for as many generations from transactions at that same moment.
Batches, of which a few would use that up, take turns always.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from generation import forecast
from generation.conf import configuration
from generation.errors import LimitReached, ServiceFull
from generation.lifecycle import Status
from generation.models import Generation
from generation.models.limits import limits_of, lock_owner
from generation.models.queries import GenerationQuerySet
from generation.models.usage import add_usage
from generation.parameters import Parameters
from generation.quotas import Credential, Limits, Policy, Quota

DAY_SECONDS = 24 * 3600
SERVICE_LOCK = 0x506963746F72  # any number that nobody else takes an advisory lock on: "Pictor"
COUNT_HOLDS_SECONDS = 1.0
MARGIN = 500

_last_count = (0, -math.inf)  # how many waited in all, and when that was counted


def admit(
    asked: Sequence[Parameters | Generation], *, owner: AbstractBaseUser, credential: Credential | None = None
) -> tuple[Quota, ...]:
    """Take the places that the generations asked for need; returns what is left of each limit in force.

    Raises LimitReached or ServiceFull; then the transaction around it must not be committed.
    """
    limits_by_key = {"": limits_of(owner)}
    if credential is not None:
        limits_by_key[credential.name] = credential.limits
    quotas: list[Quota] = []
    if any(limits != Limits() for limits in limits_by_key.values()):
        counts_days = any(limits.pixel_steps_per_day for limits in limits_by_key.values())
        takes_turns = counts_days or len(asked) > 1
        if not takes_turns:
            quotas = list(places(len(asked), owner=owner, limits_by_key=limits_by_key))
            takes_turns = any(quota.limit - quota.used < MARGIN for quota in quotas)
        if takes_turns:
            lock_owner(owner.pk)
            quotas = list(places(len(asked), owner=owner, limits_by_key=limits_by_key))
            quotas += usage(asked, owner=owner, limits_by_key=limits_by_key, now=timezone.now())
    exceeded = [with_forecast(quota, owner, credential) for quota in quotas if quota.is_exceeded]
    if exceeded:
        raise LimitReached(exceeded)
    if is_full(len(asked)):
        raise ServiceFull(forecast.seconds_until_the_line_is_shorter())
    return tuple(quotas)


def places(count: int, *, owner: AbstractBaseUser, limits_by_key: dict[str, Limits]) -> Iterator[Quota]:
    """The quotas of what waits and runs, by one look at the owner's unfinished generations."""
    wanted = [
        (key, policy, limit)
        for key, limits in limits_by_key.items()
        for policy, limit in ((Policy.WAITING, limits.waiting), (Policy.UNFINISHED, limits.unfinished))
        if limit is not None
    ]
    if not wanted:
        return
    counts = {
        f"count_{number}": Count(
            "pk", filter=(matches(key) & (Q(status=Status.QUEUED) if policy == Policy.WAITING else Q()))
        )
        for number, (key, policy, _) in enumerate(wanted)
    }
    found = Generation.objects.owned_by(owner).unfinished().order_by().aggregate(**counts)
    for (key, policy, limit), before in zip(wanted, found.values(), strict=True):
        yield Quota(policy=name(policy, key), limit=limit, used=before + count, asked=count, unit="generations")


def usage(
    asked: Sequence[Parameters | Generation],
    *,
    owner: AbstractBaseUser,
    limits_by_key: dict[str, Limits],
    now: datetime,
) -> Iterator[Quota]:
    """The quotas of pixel-steps, with what is asked for counted."""
    limited = {key: limits.pixel_steps_per_day for key, limits in limits_by_key.items() if limits.pixel_steps_per_day}
    if not limited:
        return
    pixel_steps = sum(one.pixel_steps for one in asked)
    credential_name = next((key for key in limits_by_key if key), "")
    used = add_usage(owner, api_key=credential_name, day=now.astimezone(UTC).date(), pixel_steps=pixel_steps)
    for key, limit in limited.items():
        yield Quota(
            policy=name(Policy.PIXEL_STEPS, key),
            limit=limit,
            used=used[key] if key else sum(used.values()),
            asked=pixel_steps,
            unit="pixel-steps",
            window_seconds=DAY_SECONDS,
            frees_in_seconds=seconds_until_midnight(now),
        )


def matches(key: str) -> Q:
    """Which of the owner's generations a limit is about: those of one key, or all."""
    return Q(api_key=key) if key else Q()


def name(policy: Policy, key: str) -> str:
    """What headers and problem details call the limit."""
    return f"key-{policy}" if key else str(policy)


def seconds_until_midnight(now: datetime) -> int:
    """Until the next day begins, UTC."""
    tomorrow = (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return math.ceil((tomorrow - now).total_seconds())


def with_forecast(quota: Quota, owner: AbstractBaseUser, credential: Credential | None) -> Quota:
    """The quota, with the time until there is room again as far as the line tells; None where waiting cannot help."""
    if not quota.can_ever_fit:
        return replace(quota, frees_in_seconds=None)
    if quota.frees_in_seconds is not None:
        return quota
    own = Generation.objects.owned_by(owner).unfinished()
    counted: GenerationQuerySet = (
        own.filter(api_key=credential.name) if credential and quota.policy.startswith("key-") else own
    )
    ask = (
        forecast.seconds_until_one_starts if quota.policy.endswith(Policy.WAITING) else forecast.seconds_until_one_ends
    )
    return replace(quota, frees_in_seconds=ask(counted))


def is_full(count: int) -> bool:
    """Whether `count` more would be too many for the whole service.

    Far from full, a count that is a second old will do; near it, transactions take turns and each counts anew, as those
    of batches always do.
    """
    global _last_count
    most = configuration().max_waiting
    if most is None:
        return False
    if count == 1:
        waiting, counted_at = _last_count
        if time.monotonic() - counted_at > COUNT_HOLDS_SECONDS:
            waiting = Generation.objects.waiting_count()
            _last_count = (waiting, time.monotonic())
        if waiting < most - max(MARGIN, most // 10):
            return False
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SERVICE_LOCK])
    return Generation.objects.waiting_count() + count > most
