"""Rows for tests: each maker fills in what a test does not care about; the caller states what matters."""

from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image as Picture

from generation import storage
from generation.events.progress import ProgressReport
from generation.input_pixels import Pixels
from generation.lifecycle import FINISHED, Outcome, Status
from generation.models import Attempt, Batch, Device, DiffusionModel, Generation, Image, Input, WebhookEvent
from generation.models.input import unguessable_name
from generation.models.webhook import Kind
from generation.preparation import image_request
from generation.saving import Saving
from generation.watch import Watch

SHIPPED = "fluent-emoji-256"
PASSWORD = "a-long-test-password"


def make_user(*, username: str = "ada", is_staff: bool = False, is_superuser: bool = False) -> User:
    """A user whose password is `PASSWORD`."""
    return User.objects.create_user(username, password=PASSWORD, is_staff=is_staff, is_superuser=is_superuser)


def make_model(*, slug: str = SHIPPED, is_default: bool | None = None, **fields: Any) -> DiffusionModel:
    """A model on the shipped weights; unless said otherwise, only the one with their slug is the default."""
    usual = {
        "name": slug.replace("-", " ").capitalize(),
        "source": f"weights/{SHIPPED}",
        "is_default": slug == SHIPPED if is_default is None else is_default,
        "default_width": 256,
        "default_height": 256,
        "default_num_inference_steps": 20,
        "default_guidance_scale": 4.5,
        "max_width": 512,
        "max_height": 512,
    }
    return DiffusionModel.objects.create(slug=slug, **(usual | fields))


def make_device(
    *, host: str = "here", index: int = 0, kind: str = "cpu", is_alive: bool = True, **fields: Any
) -> Device:
    """A device (cpu0, cpu1, ... or gpu0, gpu1, ...) that was heard of just now, or else an hour ago."""
    heard_at = timezone.now() - timedelta(hours=0 if is_alive else 1)
    usual = {
        "label": f"{'gpu' if kind == 'cuda' else kind}{index}",
        "name": "A processor",
        "memory_bytes": 8 * 1024**3,
        "started_at": heard_at,
        "heartbeat_at": heard_at,
    }
    return Device.objects.create(host=host, index=index, kind=kind, **(usual | fields))


def make_generation(
    *,
    owner: User | None = None,
    model: DiffusionModel | None = None,
    status: Status = Status.QUEUED,
    prompt: str = "a red apple",
    **fields: Any,
) -> Generation:
    """A generation as its row looks in `status`; unless said otherwise it is ada's, of the shipped model."""
    owner = owner or User.objects.filter(username="ada").first() or make_user()
    model = model or DiffusionModel.objects.filter(slug=SHIPPED).first() or make_model()
    steps = fields.get("num_inference_steps", model.default_num_inference_steps)
    now = timezone.now()
    usual = {
        "width": model.default_width,
        "height": model.default_height,
        "num_inference_steps": steps,
        "guidance_scale": model.default_guidance_scale,
        "seed": 7,
        "step": steps if status == Status.SUCCEEDED else 0,
        "total_steps": steps,
        "rank": -fields.get("priority", 0),
        "created_at": now - timedelta(seconds=5),
        "started_at": None if status in (Status.QUEUED, Status.CANCELLED) else now - timedelta(seconds=3),
        "finished_at": now if status in FINISHED else None,
        "cancel_requested_at": now if status == Status.CANCELLED else None,
    }
    return Generation.objects.create(owner=owner, model=model, status=status, prompt=prompt, **(usual | fields))


def make_attempt(
    *, generation: Generation, device: Device | None = None, outcome: Outcome = Outcome.RUNNING, **fields: Any
) -> Attempt:
    """The next attempt of `generation`; a running one holds its claim for a minute."""
    is_running = outcome == Outcome.RUNNING
    token = uuid4()
    generation.attempt_count += 1
    generation.claim_token = token if is_running else None
    generation.lease_until = timezone.now() + timedelta(minutes=1) if is_running else None
    generation.save(update_fields=["attempt_count", "claim_token", "lease_until"])
    usual = {
        "number": generation.attempt_count,
        "dispatch_no": generation.attempt_count,
        "worker": str(device or "gpu0@gone"),
        "started_at": generation.started_at or generation.created_at,
        "ended_at": None if is_running else timezone.now(),
    }
    return Attempt.objects.create(
        generation=generation, device=device, claim_token=token, outcome=outcome, **(usual | fields)
    )


def make_watch(generation: Generation | None = None, **fields: Any) -> Watch:
    """A watch over a run of `generation`."""
    generation = generation or make_generation()
    saving = Saving(generation.pk, image_request(generation, Pixels()), device=Device())
    report = ProgressReport(generation)
    usual = {"claim_token": uuid4(), "task_id": generation.task_id, "total": generation.total_steps}
    return Watch(report=report, saving=saving, **(usual | fields))


def make_webhook_event(
    *, generation: Generation | None = None, url: str = "", kind: Kind = Kind.FINISHED, **fields: Any
) -> WebhookEvent:
    """An event that is due, of a generation that has succeeded unless said otherwise; `url` is where to tell it."""
    generation = generation or make_generation(status=Status.SUCCEEDED)
    if url:
        Generation.objects.filter(pk=generation.pk).update(webhook_url=url, webhook_events=list(Kind))
    return WebhookEvent.objects.create(generation=generation, kind=kind, **fields)


def make_batch(*, generation: Generation) -> Batch:
    """A batch of this one generation."""
    batch = Batch.objects.create(owner=generation.owner, size=1, fingerprint="")
    Generation.objects.filter(pk=generation.pk).update(batch=batch)
    return batch


def make_image(*, generation: Generation, index: int = 0, colour: str = "crimson", size: int = 64) -> Image:
    """A stored image of `generation`, by its last attempt, or else by a new one that succeeded."""
    attempt = generation.attempts.last() or make_attempt(generation=generation, outcome=Outcome.SUCCEEDED)
    image = build_image(generation, attempt, index=index, colour=colour, size=size)
    image.save(force_insert=True)
    return image


def make_input(*, owner: User | None = None, size: tuple[int, int] = (64, 64), **fields: Any) -> Input:
    """A stored upload of one colour; unless said otherwise it is ada's, and an hour from its end."""
    owner = owner or User.objects.filter(username="ada").first() or make_user()
    data = encode_picture(Picture.new("RGB", size, "navy"))
    name = save(unguessable_name(), data, content_type="image/png")
    usual = {
        "width": size[0],
        "height": size[1],
        "size_bytes": len(data),
        "sha256": sha256(data).hexdigest(),
        "stored_at": timezone.now(),
        "expires_at": timezone.now() + timedelta(hours=1),
    }
    return Input.objects.create(owner=owner, file=name, **(usual | fields))


def build_image(
    generation: Generation, attempt: Attempt, *, index: int = 0, colour: str = "crimson", size: int = 64
) -> Image:
    """A square picture of one colour, with real files on the storage, whose row is not saved."""
    place = storage.folder(attempt)
    data = encode(colour, size=size, file_format="PNG")
    thumbnail = encode(colour, size=size // 4, file_format="WEBP")
    return Image(
        generation=generation,
        attempt=attempt,
        index=index,
        seed=generation.seed + index,
        file=save(f"{place}/{index}.png", data, content_type="image/png"),
        thumbnail=save(f"{place}/{index}-thumbnail.webp", thumbnail, content_type="image/webp"),
        content_type="image/png",
        width=size,
        height=size,
        size_bytes=len(data),
        sha256=sha256(data).hexdigest(),
    )


def encode(colour: str, *, size: int, file_format: str) -> bytes:
    """The bytes of a square picture of one colour."""
    return encode_picture(Picture.new("RGB", (size, size), colour), file_format=file_format)


def encode_picture(picture: Picture.Image, *, file_format: str = "PNG") -> bytes:
    """The bytes of a picture's file."""
    buffer = BytesIO()
    picture.save(buffer, format=file_format)
    return buffer.getvalue()


def save(name: str, data: bytes, *, content_type: str) -> str:
    """Put bytes on the storage; returns the name they got."""
    content = ContentFile(data)
    content.content_type = content_type  # type: ignore[attr-defined]  # S3 storage sends it along
    return default_storage.save(name, content)
