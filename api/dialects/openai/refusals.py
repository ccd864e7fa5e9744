"""Refusals, to which OpenAI's client answers by itself with another try.

Such a try follows no lost answer, so it has to make a picture of its own, and not to find that of an equal request.
Each refusal accounts for one try. They are noted in Redis, for all web processes; while that is away, none is known.
"""

from contextlib import suppress

from django.conf import settings
from redis.exceptions import RedisError

from api.throttles import redis
from generation.terms import Asked, fingerprint

KEPT_SECONDS = 150  # the client waits for two minutes at most, whatever Retry-After says


def note(asked: Asked, *, owner_id: int) -> None:
    """The request was refused, and will be sent again."""
    key = key_of(asked, owner_id=owner_id)
    with suppress(RedisError, OSError):
        pipeline = redis.pipeline(transaction=False)
        pipeline.rpush(key, "")
        pipeline.expire(key, KEPT_SECONDS)
        pipeline.execute()


def take(asked: Asked, *, owner_id: int) -> bool:
    """Whether a refusal accounts for this try; then it accounts for no other one."""
    with suppress(RedisError, OSError):
        return redis.lpop(key_of(asked, owner_id=owner_id)) is not None
    return False


def key_of(asked: Asked, *, owner_id: int) -> str:
    """Where the refusals of equal requests of one user are."""
    return f"{settings.BROKER_PREFIX}refusals:{owner_id}:{fingerprint(asked)}"
