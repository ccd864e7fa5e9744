"""Where the state of a running generation is kept, for another worker to go on with: in Redis, or on the storage.

Redis has the small ones, and forgets them by itself. The others, and all where hosts have no Redis in common or it does
not answer, are files: `states/<generation>/<step>`. What is kept is only ever a hint: without it the generation starts
over.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import cast
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from redis.exceptions import RedisError

from generation import storage
from generation.conf import configuration
from generation.events import streams

logger = logging.getLogger(__name__)

ROOT = "states"
LARGEST_IN_REDIS = 1024 * 1024  # bytes: Redis answers nobody else while it takes one
KEPT_SECONDS = 24 * 3600


def key(generation_id: UUID) -> str:
    """The hash in Redis that has its states by their steps."""
    return f"{configuration().redis_prefix}state:{generation_id}"


def keep(generation_id: UUID, data: bytes, *, step: int) -> None:
    """Keep the state after that step instead of earlier ones. Raises what the storage raises."""
    if configuration().saves_in_redis and len(data) <= LARGEST_IN_REDIS:
        try:
            keep_in_redis(generation_id, data, step=step)
            return
        except (RedisError, OSError) as error:
            logger.warning("Redis does not take the state of %s (%s); the storage has to.", generation_id, error)
    keep_on_storage(generation_id, data, step=step)


def keep_in_redis(generation_id: UUID, data: bytes, *, step: int) -> None:
    """Put it beside those of later steps, which there are if this worker was paused and lost its claim meanwhile."""
    name = key(generation_id)
    with streams.connect() as redis:
        earlier = [field for field in cast(list[bytes], redis.hkeys(name)) if int(field) < step]
        pipeline = redis.pipeline()
        pipeline.hset(name, str(step), cast(str, data))
        if earlier:
            pipeline.hdel(name, *cast(list[str], earlier))
        pipeline.expire(name, KEPT_SECONDS)
        pipeline.execute()


def keep_on_storage(generation_id: UUID, data: bytes, *, step: int) -> None:
    """The same there. Raises what the storage raises."""
    earlier = [number for number in steps_on_storage(generation_id) if number < step]
    default_storage.save(file_name(generation_id, step), ContentFile(data))
    for number in earlier:  # only now: a worker that dies while it writes leaves the one before
        storage.try_to_remove(file_name(generation_id, number))


def find(generation_id: UUID) -> Iterator[bytes]:
    """All that is kept of it; a place that does not answer has nothing."""
    if configuration().saves_in_redis:
        try:
            with streams.connect() as redis:
                yield from cast(list[bytes], redis.hvals(key(generation_id)))
        except (RedisError, OSError) as error:
            logger.warning("Redis does not say whether it has a state of %s: %s", generation_id, error)
    try:
        for step in steps_on_storage(generation_id):
            yield storage.read(file_name(generation_id, step))
    except Exception as error:  # each backend has its own errors, and all of them mean the same here
        logger.warning("The storage does not give the state of %s: %s", generation_id, error)


def forget(generation_id: UUID) -> None:
    """Remove all that is kept of it; what fails is left to Redis's clock and to the housekeeper."""
    try:
        if configuration().saves_in_redis:
            with streams.connect() as redis:
                redis.delete(key(generation_id))
        storage.remove_generation(generation_id, ROOT)
    except Exception as error:  # each backend has its own errors, and all of them mean the same here
        logger.warning("The state of %s stays for now: %s", generation_id, error)


def generations_in_redis() -> Iterator[UUID]:
    """The ids of generations that have a state there, one after another, as they are asked for; none if it is away."""
    if not configuration().saves_in_redis:
        return
    beginning = f"{configuration().redis_prefix}state:"
    with suppress(RedisError, OSError), streams.connect() as redis:
        for name in redis.scan_iter(match=f"{beginning}*", count=1000):
            with suppress(ValueError):  # not one of ours
                yield UUID(cast(bytes, name).decode().removeprefix(beginning))


def file_name(generation_id: UUID, step: int) -> str:
    """Where the state after a step lies on the storage."""
    return f"{ROOT}/{generation_id}/{step}"


def steps_on_storage(generation_id: UUID) -> list[int]:
    """The steps of which the storage has a state."""
    try:
        _, names = default_storage.listdir(f"{ROOT}/{generation_id}")
    except FileNotFoundError:
        return []
    return [int(name) for name in names if name.isdecimal()]
