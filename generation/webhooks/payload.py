"""What a webhook says: thin, the same at every try, and signed (https://www.standardwebhooks.com)."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.module_loading import import_string
from standardwebhooks import Webhook

from generation.conf import configuration
from generation.models.webhook import Kind, WebhookEvent


def body_of(event: WebhookEvent) -> str:
    """The JSON text of an event. What it says of its generation changes no more, so neither does the text.

    In a dialect it may, for its links to images are good for an hour and so are made anew at each try.
    """
    generation = event.generation
    dialect, _, address = generation.webhook_words.partition(" ")
    if tell := configuration().webhook_dialects.get(dialect):
        return json.dumps(import_string(tell)(event, address), ensure_ascii=False, separators=(",", ":"))
    data: dict[str, Any] = {
        "id": str(generation.pk),
        "model": generation.model.slug,
        "batch": str(generation.batch_id) if generation.batch_id else None,
        "url": reverse("generation-detail", args=[generation.pk]),
    }
    data |= end_of(event) if event.kind == Kind.FINISHED else event.facts
    message = {"type": type_of(event), "timestamp": event.created_at.isoformat(), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def type_of(event: WebhookEvent) -> str:
    """`generation.started`, `generation.progress`, or the end that it has come to, as `generation.succeeded`."""
    name = event.generation.status if event.kind == Kind.FINISHED else event.kind
    return f"generation.{name}"


def end_of(event: WebhookEvent) -> dict[str, Any]:
    """How a generation has ended, and where its images are."""
    generation = event.generation
    error = {"code": generation.error_code, "detail": generation.error_detail} if generation.error_code else None
    return {
        "status": str(generation.status),
        "error": error,
        "cancel_reason": generation.cancel_reason or None,
        "images": [
            {
                "index": image.index,
                "url": reverse("generation-image", args=[generation.pk, image.index]),
                "content_type": image.content_type,
                "size_bytes": image.size_bytes,
                "sha256": image.sha256,
            }
            for image in generation.images.order_by("index")
        ],
        "created_at": in_iso_8601(generation.created_at),
        "started_at": in_iso_8601(generation.started_at),
        "finished_at": in_iso_8601(generation.finished_at),
    }


def in_iso_8601(moment: datetime | None) -> str | None:
    """A time in UTC."""
    return moment.isoformat() if moment else None


def headers_of(event: WebhookEvent, body: str, *, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: one id per event, the time of this try, a signature with each secret.

    A dialect may sign in its own way besides.
    """
    dialect = event.generation.webhook_words.partition(" ")[0]
    signer = configuration().webhook_signers.get(dialect)
    signatures = [Webhook(secret).sign(str(event.pk), now, body) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "Pictor",
        "webhook-id": str(event.pk),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
        **(import_string(signer)(event, body, now=now) if signer else {}),
    }
