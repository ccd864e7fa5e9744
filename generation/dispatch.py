"""Which generation is published to which queue, and when: the only module that talks to the broker.

The broker holds a short window per model, about twice the slots that serve it. The rest waits in the
database, where order is a query, a cancel is an UPDATE, and nothing is lost with the broker.
"""

import logging
import time
from collections.abc import Iterable

from celery import current_app
from kombu.exceptions import OperationalError

from generation import kill_points
from generation.models import Device, DiffusionModel, Generation

logger = logging.getLogger(__name__)

RUN_TASK = "generation.run"
WINDOW_PER_SLOT = 2
SMALLEST_WINDOW = 2
PINNED_AT_ONCE = 20
PAUSE_AFTER_FAILURE_SECONDS = 5.0

_paused_until = 0.0


def model_queue(slug: str) -> str:
    """The queue that every device which serves the model consumes."""
    return f"model.{slug}"


def device_queue(*, host: str, label: str) -> str:
    """The queue of one device, for generations that are pinned to it."""
    return f"device.{host}.{label}"


def send_off(generation: Generation) -> None:
    """Have a new generation published: at once if it is pinned, else as soon as it is its turn."""
    kill_points.reach("after_commit", generation.pk)
    if generation.pinned_to is None:
        top_up(generation.model)
    else:
        publish_all([generation])


def top_up(model: DiffusionModel) -> int:
    """Publish waiting generations of `model` until its window is full; returns how many."""
    waiting = model.generations.shared()
    in_line = list(waiting.queued()[: SMALLEST_WINDOW + 1])
    if len(in_line) <= SMALLEST_WINDOW:  # so short a line fits into any window, and this one look has seen all of it
        return publish_all(generation for generation in in_line if generation.dispatched_at is None)
    room = max(0, window(model) - waiting.dispatched().count())
    return publish_all(waiting.undispatched()[:room])


def publish_pinned() -> int:
    """Publish waiting generations that are pinned: in the queue of their device they hold nobody else up."""
    return publish_all(Generation.objects.pinned().undispatched().select_related("model", "pinned_to")[:PINNED_AT_ONCE])


def publish_all(generations: Iterable[Generation]) -> int:
    """Publish one after another until the broker fails; returns how many it took."""
    if is_paused():
        return 0
    published = 0
    for generation in generations:
        published += publish(generation)
        if is_paused():
            break
    return published


def window(model: DiffusionModel) -> int:
    """How many messages of `model` the broker should hold, so that no slot runs dry between two runs."""
    return max(SMALLEST_WINDOW, WINDOW_PER_SLOT * Device.objects.slots_for(model))


def publish(generation: Generation) -> bool:
    """Send one message for a waiting generation; False if it no longer waits or the broker did not take it.

    The number is taken before the message is sent, so two dispatchers cannot publish the same one, and a
    message that is lost on the way is made anew with the next number (`housekeeping.redispatch_overdue`).
    """
    if not generation.mark_dispatched():
        return False
    queue = (
        model_queue(generation.model.slug)
        if generation.pinned_to is None
        else device_queue(host=generation.pinned_to.host, label=generation.pinned_to.label)
    )
    arguments = [str(generation.pk), generation.dispatch_no]
    try:
        current_app.send_task(RUN_TASK, args=arguments, task_id=generation.task_id, queue=queue)
    except (OperationalError, OSError) as error:
        logger.warning("The broker took no message (%s); generation %s waits in the database.", error, generation)
        generation.unmark_dispatched()
        pause()
        return False
    return True


def revoke(generation: Generation) -> None:
    """Tell the worker that runs `generation` to look: fast, but a hint that may get lost, so it never raises."""
    if is_paused():
        return
    try:
        with current_app.connection_for_write() as connection:
            # Connecting first bounds the time: the broadcast itself would retry a dead broker for ever.
            connection.ensure_connection(max_retries=1, timeout=1)
            current_app.control.revoke(generation.task_id, connection=connection)
    except Exception as error:  # whatever the transport raises, the flag in the database has the last word
        logger.warning("The broker took no revoke (%s); generation %s stops by its flag.", error, generation)
        pause()


def is_paused() -> bool:
    """Whether this process leaves the broker alone, having just seen it fail."""
    return time.monotonic() < _paused_until


def pause() -> None:
    """Leave the broker alone for a while, so that requests do not all wait for its time-out."""
    global _paused_until
    _paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
