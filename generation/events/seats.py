"""Seats: how many streams of events somebody has open, counted in Redis over all web processes.

Each open stream is a member of a sorted set, with the time until which it is known; its hub renews that. So the seats
of a process that died are free half a minute later.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import uuid4

from redis.asyncio import Redis

from generation.conf import configuration
from generation.events.patience import answers_within
from generation.events.streams import ANSWER_SECONDS

KNOWN_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Seat:
    """One open stream, and under which names it counts."""

    id: str
    names: tuple[str, ...]


def key_of(name: str) -> str:
    """The sorted set of those who sit under that name."""
    return f"{configuration().redis_prefix}seats:{name}"


@answers_within(ANSWER_SECONDS)
async def take(redis: Redis, names: Collection[str]) -> tuple[Seat, list[int]]:
    """A seat under each of the names, and how many are taken there now, this one among them."""
    seat = Seat(uuid4().hex, tuple(names))
    now, _ = await redis.time()  # Redis's clock, for those of hosts may differ
    pipeline = redis.pipeline(transaction=True)
    for name in names:
        pipeline.zremrangebyscore(key_of(name), "-inf", now - 1)
        pipeline.zadd(key_of(name), {seat.id: now + KNOWN_SECONDS})
        pipeline.expire(key_of(name), 2 * KNOWN_SECONDS)
        pipeline.zcard(key_of(name))
    answers = await pipeline.execute()
    return seat, [int(count) for count in answers[3::4]]


@answers_within(ANSWER_SECONDS)
async def keep(redis: Redis, seats: Iterable[Seat]) -> None:
    """Have it known for a while that these are still taken."""
    now, _ = await redis.time()
    pipeline = redis.pipeline(transaction=False)
    for seat in seats:
        for name in seat.names:
            pipeline.zadd(key_of(name), {seat.id: now + KNOWN_SECONDS})
            pipeline.expire(key_of(name), 2 * KNOWN_SECONDS)
    await pipeline.execute()


@answers_within(ANSWER_SECONDS)
async def leave(redis: Redis, seat: Seat) -> None:
    """Free it."""
    pipeline = redis.pipeline(transaction=False)
    for name in seat.names:
        pipeline.zrem(key_of(name), seat.id)
    await pipeline.execute()
