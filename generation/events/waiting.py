"""Waiting until a generation is finished, without a thread that waits."""

import asyncio
from uuid import UUID

from generation.events.hub import EventsUnavailable, finished_among, this_hub
from generation.events.listener import ListenerClosed

LOOK_AGAIN_SECONDS = 0.5


async def wait_until_finished(generation_id: UUID, *, owner_id: object, timeout_seconds: float) -> bool:
    """Whether the generation is finished, or gone, before the time is up. The rows have to be committed.

    Where Redis does not answer it asks the database twice a second. Ends early, with False, if this process stops.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            try:
                return await _hear(generation_id, owner_id)
            except EventsUnavailable:
                return await _look(generation_id)
    except TimeoutError:
        return False
    except ListenerClosed:
        return await _is_finished(generation_id)


async def _hear(generation_id: UUID, owner_id: object) -> bool:
    async with this_hub().listen(owner_id, generation_id=generation_id) as listener:
        has_ended = await _is_finished(generation_id)
        while not has_ended:
            events = await listener.take()
            has_ended = await _is_finished(generation_id) if events is None else any(event.is_end for event in events)
        return True


async def _look(generation_id: UUID) -> bool:
    while not await _is_finished(generation_id):
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return True


async def _is_finished(generation_id: UUID) -> bool:
    return bool(await asyncio.to_thread(finished_among, {str(generation_id)}))
