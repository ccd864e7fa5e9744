"""One try to deliver an event: claim it, send it, note the answer and what follows from it."""

import logging
import random
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

from django.db import transaction

from generation import dispatch
from generation.models import WebhookAccount, WebhookDelivery, WebhookEvent
from generation.models.webhook import Kind, State
from generation.webhooks.payload import body_of, headers_of
from generation.webhooks.sending import Answer, SendingFailed, post

logger = logging.getLogger(__name__)

# After each try that failed, the time until the next: three days altogether, as Standard Webhooks proposes.
MINUTE, HOUR = 60, 3600
PAUSES_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 20 * HOUR)
JITTER = 0.1
HEEDED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)  # where Retry-After counts


def deliver(event_id: UUID, tries: int) -> None:
    """Deliver an event that was tried `tries` times, then let the next ones come."""
    try_to_deliver(event_id, tries)
    dispatch.publish_events(WebhookEvent.objects.due())


def try_to_deliver(event_id: UUID, tries: int) -> None:
    """Deliver an event; a message that is stale or comes twice does nothing."""
    event = WebhookEvent.objects.select_related("generation__model").filter(pk=event_id).first()
    if event is None or not event.claim(tries=tries):
        return
    if is_unwanted(event):
        end_all_of(event)
        return
    started = time.perf_counter()
    try:
        answer, error = send(event), ""
    except SendingFailed as failure:
        answer, error = None, str(failure)
    delivery = WebhookDelivery(event=event, seconds=time.perf_counter() - started, error=error)
    if answer is not None:
        delivery.status_code, delivery.answer = answer.status_code, answer.body
    with transaction.atomic():
        delivery.save()
        conclude(event, answer)
    logger.info("Webhook %s, try %s: %s; it is %s.", event, event.tries, answer and answer.status_code, event.state)


def send(event: WebhookEvent) -> Answer:
    """Sign the event and send it; raises SendingFailed."""
    now = datetime.now(UTC)
    body = body_of(event)
    account = WebhookAccount.of(event.generation.owner_id)
    headers = headers_of(event, body, secrets=account.signing_secrets(now=now), now=now)
    return post(event.generation.webhook_url, body, headers=headers)


def conclude(event: WebhookEvent, answer: Answer | None) -> None:
    """What follows from the answer, or from none."""
    if answer is not None and 200 <= answer.status_code < 300:
        event.succeed()
    elif answer is not None and answer.status_code == HTTPStatus.GONE:
        end_all_of(event)
    elif event.kind == Kind.PROGRESS or event.tries > len(PAUSES_SECONDS):  # progress is old news by then
        event.give_up()
    else:
        event.postpone(pause_after(event.tries, answer, jitter=random.uniform(1 - JITTER, 1 + JITTER)))


def pause_after(tries: int, answer: Answer | None, *, jitter: float) -> timedelta:
    """The time until the next try, longer if the receiver asks for that."""
    seconds = PAUSES_SECONDS[tries - 1] * jitter
    if answer is not None and answer.status_code in HEEDED:
        seconds = max(seconds, answer.retry_after_seconds or 0)
    return timedelta(seconds=seconds)


def is_unwanted(event: WebhookEvent) -> bool:
    """Whether the receiver has said that it wants to hear no more of this generation."""
    others = WebhookEvent.objects.filter(generation=event.generation_id, state=State.GONE)
    return others.exclude(pk=event.pk).exists()


def end_all_of(event: WebhookEvent) -> None:
    """Tell no more of the generation."""
    others = WebhookEvent.objects.pending().filter(generation=event.generation_id)
    others.update(state=State.GONE, due_at=None, dispatched_at=None)
    event.state = State.GONE
