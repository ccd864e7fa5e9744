"""The Redis behind the events: its keys, its clients, and what is written there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from generation.conf import configuration
from generation.events.event import Event
from generation.events.patience import answers_within

Entry = tuple[bytes, Mapping[bytes, bytes]]

PREVIEW_KEPT_SECONDS = 60
KEPT_SECONDS = 3600  # how long the stream of an owner outlives its last event
MOST_ENTRIES = 10_000
LISTENER_KNOWN_SECONDS = 30
ANSWER_SECONDS = 2.0
READ_SECONDS = 5.0  # how long a read waits for news before it is repeated


def stream_of(owner: str) -> str:
    """The stream with all events of one owner's generations."""
    return f"{configuration().redis_prefix}events:{owner}"


def preview_of(generation: str) -> str:
    """The newest preview of a generation."""
    return f"{configuration().redis_prefix}preview:{generation}"


def wake_up_call(hub: str) -> str:
    """The stream that makes one hub read anew."""
    return f"{configuration().redis_prefix}hub:{hub}"


def listeners() -> str:
    """The sorted set of what is listened to (owners, generations), each with the time until which that is known."""
    return f"{configuration().redis_prefix}listeners"


def address() -> str:
    """The URL of Redis as its client has it; Celery's names differ for sockets and databases."""
    url = configuration().redis_url.partition(";")[0]  # Celery takes alternatives, separated by semicolons
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=").replace("CERT_", "")


def connect() -> Redis:
    """A client for a thread of its own; nothing is tried twice."""
    return Redis.from_url(
        address(),
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def connect_async(*, connections: int) -> AsyncRedis:
    """A client for an event loop that waits for one of a few connections; the calls below bound how long they take."""
    pool = BlockingConnectionPool.from_url(
        address(),
        max_connections=connections,
        timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=None,  # not redis-py's default: answers_within says why
        retry=AsyncRetry(NoBackoff(), 0),
        protocol=2,
    )
    return AsyncRedis.from_pool(pool)


@answers_within(ANSWER_SECONDS)
async def ping(redis: AsyncRedis) -> None:
    """Raise what Redis has against answering."""
    await redis.ping()


def append(redis: Redis, events: Iterable[Event]) -> None:
    """Write events to the streams of their owners, in one round trip."""
    pipeline = redis.pipeline(transaction=False)
    owners = set()
    for event in events:
        if event.draw is not None:
            pipeline.set(preview_of(event.generation), event.draw(), ex=PREVIEW_KEPT_SECONDS)
        pipeline.xadd(stream_of(event.owner), cast(Any, event.fields), maxlen=MOST_ENTRIES, approximate=True)
        owners.add(event.owner)
    for owner in owners:
        pipeline.expire(stream_of(owner), KEPT_SECONDS)
    pipeline.execute()


def read_listeners(redis: Redis) -> frozenset[str]:
    """The owners and generations that somebody listens to."""
    now, _ = redis.time()  # Redis's clock, for those of hosts may differ
    known = cast(list[bytes], redis.zrangebyscore(listeners(), now, "+inf"))
    return frozenset(name.decode() for name in known)


@answers_within(ANSWER_SECONDS)
async def note_listeners(redis: AsyncRedis, names: Iterable[str]) -> None:
    """Have it known for a while that somebody listens to these owners and generations."""
    now, _ = await redis.time()
    pipeline = redis.pipeline(transaction=False)
    pipeline.zadd(listeners(), dict.fromkeys(names, now + LISTENER_KNOWN_SECONDS))
    pipeline.zremrangebyscore(listeners(), "-inf", now - 1)
    pipeline.expire(listeners(), 2 * LISTENER_KNOWN_SECONDS)
    await pipeline.execute()


@answers_within(ANSWER_SECONDS)
async def newest_entry(redis: AsyncRedis, stream: str) -> bytes | None:
    """The id of the last entry, None for an empty stream."""
    entries = cast(list[Entry], await redis.xrevrange(stream, count=1))
    return entries[0][0] if entries else None


@answers_within(ANSWER_SECONDS)
async def entries_between(redis: AsyncRedis, stream: str, first: str, last: str, *, count: int) -> list[Entry]:
    """At most `count` entries; an id with "(" before it is not among them."""
    return cast(list[Entry], await redis.xrange(stream, first, last, count))


@answers_within(READ_SECONDS + ANSWER_SECONDS)
async def new_entries(redis: AsyncRedis, after: Mapping[str, str], *, count: int) -> list[tuple[bytes, list[Entry]]]:
    """What has come to each stream after the id that is given for it, or will in a while; at most `count` of each."""
    reply = await redis.xread(cast(Any, after), count=count, block=int(1000 * READ_SECONDS))
    return cast(list[tuple[bytes, list[Entry]]], reply or [])


@answers_within(ANSWER_SECONDS)
async def previews(redis: AsyncRedis, generations: Sequence[str]) -> dict[str, bytes]:
    """The newest preview of each, as WebP; those without one are missing."""
    found = await redis.mget([preview_of(generation) for generation in generations])
    return {name: cast(bytes, webp) for name, webp in zip(generations, found, strict=True) if webp is not None}


@answers_within(ANSWER_SECONDS)
async def begin(redis: AsyncRedis, event: Event) -> bytes:
    """Write the first entry of a stream; returns its id."""
    stream = stream_of(event.owner)
    pipeline = redis.pipeline(transaction=False)
    pipeline.xadd(stream, cast(Any, event.fields))
    pipeline.expire(stream, KEPT_SECONDS)
    return cast(bytes, (await pipeline.execute())[0])


@answers_within(ANSWER_SECONDS)
async def wake_up(redis: AsyncRedis, stream: str) -> None:
    """Write to a stream that nobody else reads."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.xadd(stream, {"": ""}, maxlen=1)
    pipeline.expire(stream, KEPT_SECONDS)
    await pipeline.execute()
