"""Which generation is published to which queue, and when: the only module that talks to the broker.

The broker holds a short window per model, about twice the slots that serve it. The rest waits in the
database, where order is a query, a cancel is an UPDATE, and nothing is lost with the broker.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import current_app
from celery.app.control import Control
from django.db import Error
from kombu import Connection
from kombu.exceptions import OperationalError

from generation import kill_points
from generation.conf import configuration
from generation.models import Device, DiffusionModel, Generation, WebhookEvent, allowances
from generation.models.webhook import WebhookEventQuerySet

logger = logging.getLogger(__name__)

RUN_TASK = "generation.run"
DELIVER_TASK = "generation.deliver"
IO_QUEUE = "io"
IO_WINDOW = 100  # webhooks that are under way: the rest waits in the database
IO_SHARE = 4  # of these, those of one owner: a slow receiver must not take all threads of an `io` worker
WINDOW_PER_SLOT = 2
SMALLEST_WINDOW = 2
PINNED_AT_ONCE = 20
PAUSE_AFTER_FAILURE_SECONDS = 5.0
FULL_SECONDS = 1.0  # how long a new generation need not look again: who ends one does, and the housekeeper

_paused_until = 0.0
_broker_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="broker")
_full_until: dict[int, float] = {}  # by model


def model_queue(slug: str) -> str:
    """The queue that every device which serves the model consumes."""
    return f"model.{slug}"


def device_queue(*, host: str, label: str) -> str:
    """The queue of one device, for generations that are pinned to it."""
    return f"device.{host}.{label}"


def send_off(generation: Generation) -> None:
    """Have a new generation published: at once if it is pinned, else as soon as it is its turn."""
    kill_points.reach("after_commit", generation.pk)
    if generation.pinned_to is not None:
        publish_all([generation])
    elif time.monotonic() >= _full_until.get(generation.model_id, 0.0):
        top_up(generation.model)


def top_up(model: DiffusionModel) -> int:
    """Publish waiting generations of `model` until its window is full; returns how many."""
    waiting = model.generations.queued().shared()
    in_line = list(waiting[: SMALLEST_WINDOW + 1])
    if len(in_line) <= SMALLEST_WINDOW:  # so short a line fits into any window, and this one look has seen all of it
        return publish_all(generation for generation in in_line if generation.dispatched_at is None)
    room = window(model) - model.generations.dispatched().shared().count()
    if room <= 0:
        _full_until[model.pk] = time.monotonic() + FULL_SECONDS
        return 0
    published = 0
    undispatched = waiting.filter(dispatched_at=None)
    while next_ones := list(undispatched.exclude(allowances.held_back())[: room - published]):
        count = publish_all(next_ones)
        published += count
        if count in (0, len(next_ones)):
            break  # else some were held back: their places go to others
    return published


def top_up_all(models: Iterable[DiffusionModel]) -> int:
    """Fill the windows of several models; returns how many messages that took."""
    return sum(top_up(model) for model in models)


def publish_pinned() -> int:
    """Publish waiting generations that are pinned: in the queue of their device they hold nobody else up."""
    return publish_all(Generation.objects.pinned().undispatched().select_related("model", "pinned_to")[:PINNED_AT_ONCE])


def publish_all(generations: Iterable[Generation]) -> int:
    """Publish one after another until the broker fails or has taken long; returns how many it took."""
    if is_paused():
        return 0
    published, enough_at = 0, time.monotonic() + configuration().broker_seconds
    for generation in generations:
        published += publish(generation)
        if is_paused() or time.monotonic() > enough_at:
            break  # the rest is the housekeeper's: a request may be waiting for this
    return published


def window(model: DiffusionModel) -> int:
    """How many messages of `model` the broker should hold, so that no slot runs dry between two runs."""
    return max(SMALLEST_WINDOW, WINDOW_PER_SLOT * Device.objects.slots_for(model))


def publish(generation: Generation) -> bool:
    """Send one message for a waiting generation; False if it no longer waits, its owner or its API key has as many at
    work as they may, or the broker did not take it.

    The number is taken before the message is sent, so two dispatchers cannot publish the same one, and a
    message that is lost on the way is made anew with the next number (`housekeeping.redispatch_overdue`).
    """
    if not allowances.mark_dispatched(generation):
        return False
    queue = (
        model_queue(generation.model.slug)
        if generation.pinned_to is None
        else device_queue(host=generation.pinned_to.host, label=generation.pinned_to.label)
    )
    arguments = [str(generation.pk), generation.dispatch_no]
    is_sent = send(RUN_TASK, arguments=arguments, task_id=generation.task_id, queue=queue)
    if not is_sent:
        generation.unmark_dispatched()
    return is_sent


def send(task: str, *, arguments: list[Any], task_id: str, queue: str) -> bool:
    """Hand one message to the broker; if it fails this process leaves it alone for a while, and the answer is False."""
    try:
        in_time(current_app.send_task, task, args=arguments, task_id=task_id, queue=queue)
    except (OperationalError, OSError) as error:
        logger.warning("The broker took no message (%s); %s waits in the database.", error, task_id)
        pause()
        return False
    return True


def in_time(speak: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Have `speak` talk to the broker; raises TimeoutError if that takes long in all, however it is spread.

    The limits on sockets are for each answer, and many make one message. What comes through after its time is as good
    as any, until the next dispatch makes it stale.
    """
    spoken = _broker_threads.submit(speak, *arguments, **options)
    try:
        return spoken.result(timeout=2 * configuration().broker_seconds)
    except TimeoutError as error:
        spoken.cancel()
        raise TimeoutError("it does not answer in time") from error


def notify(generation: Generation) -> int:
    """Publish what is to be told of `generation` by webhooks now; returns how many messages that took.

    It never raises, for whoever has moved a generation has more to do; the housekeeper publishes what is left.
    """
    if not generation.webhook_url:
        return 0
    try:
        return publish_events(WebhookEvent.objects.due().filter(generation=generation))
    except Error as error:
        logger.warning("The webhooks of %s wait, the database answers: %s", generation, error)
        return 0


def publish_events(events: WebhookEventQuerySet) -> int:
    """Publish due webhook events as far as there is room, for all of them and for each owner; returns how many."""
    due = list(events.first_of_each_owner(IO_SHARE).select_related("generation")[:IO_WINDOW])
    under_way = WebhookEvent.objects.dispatched() if due else WebhookEvent.objects.none()
    by_owner = Counter(under_way.values_list("generation__owner", flat=True))
    published = 0
    for event in due:
        owner = event.generation.owner_id
        if is_paused() or by_owner.total() >= IO_WINDOW:
            break
        if by_owner[owner] < IO_SHARE and publish_event(event):
            by_owner[owner] += 1
            published += 1
    return published


def publish_event(event: WebhookEvent) -> bool:
    """Send one message for an event that is due; False if it is not, or the broker did not take it."""
    if not event.mark_dispatched():
        return False
    arguments = [str(event.pk), event.tries]
    is_sent = send(DELIVER_TASK, arguments=arguments, task_id=f"{event.pk}:{event.tries}", queue=IO_QUEUE)
    if not is_sent:
        event.unmark_dispatched()
    return is_sent


def revoke(generation: Generation) -> None:
    """Tell the worker that runs `generation` to look: fast, but a hint that may get lost, so it never raises."""
    if is_paused():
        return
    try:
        # Both are taken here: in another thread `current_app` may be another one.
        in_time(broadcast_revoke, generation.task_id, connect=current_app.connection_for_write, by=current_app.control)
    except Exception as error:  # whatever the transport raises, the flag in the database has the last word
        logger.warning("The broker took no revoke (%s); generation %s stops by its flag.", error, generation)
        pause()


def broadcast_revoke(task_id: str, *, connect: Callable[[], Connection], by: Control) -> None:
    """Tell all workers."""
    with connect() as connection:
        connect_now(connection)  # the broadcast itself would retry a dead broker for ever
        by.revoke(task_id, connection=connection)


def can_reach_broker() -> bool:
    """Whether the broker answers; one that has just failed is not asked again for a while."""
    if is_paused():
        return False
    try:
        in_time(connect_once, current_app.connection_for_write)
    except Exception as error:  # whatever the transport raises
        logger.warning("The broker does not answer: %s", error)
        pause()
        return False
    return True


def connect_once(connect: Callable[[], Connection]) -> None:
    """Connect, and let go again."""
    with connect() as connection:
        connect_now(connection)


def connect_now(connection: Connection) -> None:
    """Connect at the first or second try; kombu would sleep for two seconds between them."""
    connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)


def is_paused() -> bool:
    """Whether this process leaves the broker alone, having just seen it fail."""
    return time.monotonic() < _paused_until


def pause() -> None:
    """Leave the broker alone for a while, so that requests do not all wait for its time-out."""
    global _paused_until
    _paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
