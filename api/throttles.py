"""Requests per minute, of a user and of a key: counted in Redis, for all web processes together.

A window starts with the first request and ends a minute later. While Redis is away nobody is limited: the answer to
a request matters more than its count. The log says so.
"""

import logging
import math
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.functional import SimpleLazyObject
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from api.rate_limits import limits_in_force, remember
from generation.errors import LimitReached
from generation.quotas import Policy, Quota

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module

WINDOW_SECONDS = 60
TIMEOUT_SECONDS = 0.2
PAUSE_AFTER_FAILURE_SECONDS = 5.0

logger = logging.getLogger(__name__)
_paused_until = -math.inf


class RequestsPerMinute(BaseThrottle):
    """Counts each request of somebody with such a limit; their quotas go into the headers of the answer."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        """Raise LimitReached for one too many."""
        quotas = count_request(request)
        remember(request, quotas)
        exceeded = [quota for quota in quotas if quota.is_exceeded]
        if exceeded:
            raise LimitReached(exceeded)
        return True


def count_request(request: Request) -> tuple[Quota, ...]:
    """Count this one; the quotas of the user and of the key, as far as they are limited."""
    if not request.user or not request.user.is_authenticated:
        return ()
    wanted = list(limits_in_force(request, Policy.REQUESTS, lambda limits: limits.requests_per_minute))
    if not wanted or time.monotonic() < _paused_until:
        return ()
    try:
        counts = count([name for _, name, _ in wanted])
    except (RedisError, OSError) as error:
        pause()
        logger.warning("Redis does not answer (%s): requests per minute are not limited for now.", error)
        return ()
    return tuple(
        Quota(
            policy=policy,
            limit=limit,
            used=used,
            asked=1,
            unit="requests",
            window_seconds=WINDOW_SECONDS,
            frees_in_seconds=frees_in_seconds,
        )
        for (policy, _, limit), (used, frees_in_seconds) in zip(wanted, counts, strict=True)
    )


def count(names: list[str]) -> list[tuple[int, int]]:
    """Add one to each counter: what it has come to, and the seconds until it starts anew. One round trip."""
    with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            key = f"{settings.BROKER_PREFIX}requests:{name}"
            pipeline.incr(key)
            pipeline.expire(key, WINDOW_SECONDS, nx=True)  # also mends a counter that has lost its end
            pipeline.pttl(key)
        answers = pipeline.execute()
    return [(used, max(1, math.ceil(left / 1000))) for used, left in zip(answers[::3], answers[2::3], strict=True)]


def pause() -> None:
    """Leave Redis alone for a while, so that requests do not all wait for its time-out."""
    global _paused_until
    _paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS


def connect() -> Redis:
    """A client for the Redis of the settings, or for the embedded one; it connects when it is first used."""
    url = settings.REDIS_URL or f"redis+socket://{settings.EMBEDDED_REDIS_SOCKET}"
    return Redis.from_url(
        url.replace("redis+socket://", "unix://"),
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


redis: Redis = SimpleLazyObject(connect)  # type: ignore[assignment]
