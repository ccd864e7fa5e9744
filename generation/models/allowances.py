"""Who may have how many generations at work at once: at the broker or running. What is more is held back in line."""

import time
from collections import Counter

from django.db import transaction
from django.db.models import Count, Q
from knox.models import get_token_model

from generation.conf import configuration
from generation.models.generation import Generation
from generation.models.limits import UserLimits, lock_owner
from generation.models.queries import GenerationQuerySet

KNOWN_SECONDS = 1.0

_anybody_is_limited = (False, float("-inf"))  # and when that was asked


def mark_dispatched(generation: Generation) -> bool:
    """Take the next dispatch number, unless its owner or its API key has as many at work as they may."""
    if not is_anybody_limited():
        return generation.mark_dispatched()
    with transaction.atomic():
        lock_owner(generation.owner_id)
        others = Generation.objects.filter(owner=generation.owner_id).exclude(pk=generation.pk)
        is_held = Generation.objects.filter(of_who_has_enough(others), pk=generation.pk).exists()
        return not is_held and generation.mark_dispatched()


def held_back() -> Q:
    """Those whose owner or key has as many at work as they may."""
    return of_who_has_enough(Generation.objects.all()) if is_anybody_limited() else Q(pk__in=[])


def of_who_has_enough(generations: GenerationQuerySet) -> Q:
    """The generations of those who have, among these, as many at work as they may."""
    at_work = generations.at_work().order_by().values_list("owner", "api_key")
    by_key = {(owner, key): count for owner, key, count in at_work.annotate(Count("pk"))}
    by_owner: Counter[int] = Counter()
    for (owner, _), count in by_key.items():
        by_owner[owner] += count
    usual = configuration().limits_per_user
    own = {row.user_id: row for row in UserLimits.objects.filter(user__in=by_owner)}
    limits = {owner: own[owner].limits(otherwise=usual) if owner in own else usual for owner in by_owner}
    enough = Q(
        owner__in=[owner for owner, limit in limits.items() if limit.running and by_owner[owner] >= limit.running]
    )
    for key in get_token_model().objects.filter(user__in=by_owner, max_running__gt=0):
        if by_key.get((key.user_id, key.token_key), 0) >= key.max_running:
            enough |= Q(owner=key.user_id, api_key=key.token_key)
    return enough


def is_anybody_limited() -> bool:
    """Whether there is such a limit at all; looked up once a second."""
    global _anybody_is_limited
    is_one, asked_at = _anybody_is_limited
    if time.monotonic() - asked_at > KNOWN_SECONDS:
        tables = (UserLimits, get_token_model())
        is_one = bool(configuration().limits_per_user.running) or any(
            table.objects.filter(max_running__gt=0).exists() for table in tables
        )
        _anybody_is_limited = (is_one, time.monotonic())
    return is_one
