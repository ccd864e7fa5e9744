"""From Replicate's words to ours and back; nothing here asks the database."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from api.dialects.pictures import picture_in
from api.dialects.replicate.schema import properties
from api.dialects.shapes import size_of
from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation, Image, Input
from generation.models.webhook import Kind
from generation.parameters import Wishes
from generation.terms import Terms

NAME = "replicate"
OWNER = "pictor"
STATUSES = {
    Status.QUEUED: "starting",
    Status.RUNNING: "processing",
    Status.CANCELLED: "canceled",
}
SAME_NAMES = ("negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed")
SCHEDULERS = {
    "k_euler": "euler",
    "k_euler_ancestral": "euler_ancestral",
    "dpmsolvermultistep": "dpmpp_2m",
    "dpmsolversinglestep": "dpmpp_2s",
    "karrasdpm": "dpmpp_2m_karras",
    "heundiscrete": "heun",
}
NAMES = {"num_images": "num_outputs", "format": "output_format", "strength": "prompt_strength"}
EVENTS = {"start": Kind.STARTED, "output": Kind.PROGRESS, "logs": Kind.PROGRESS, "completed": Kind.FINISHED}
BAR_WIDTH = 20


def slug_of(reference: str) -> str:
    """The slug in `slug`, `owner/slug` or `owner/slug:version`: the owner is whatever a script says."""
    return reference.partition(":")[0].rpartition("/")[2]


def wishes_of(given: Mapping[str, Any], model: DiffusionModel) -> Wishes:
    """What an input asks for."""
    asked: dict[str, Any] = {name: given[name] for name in SAME_NAMES if name in given}
    if "guidance" in given:
        asked.setdefault("guidance_scale", given["guidance"])
    if "aspect_ratio" in given and not {"width", "height"} & set(given):
        asked["width"], asked["height"] = size_of(given["aspect_ratio"], model)
    if "scheduler" in given:
        name = given["scheduler"].lower()
        asked["scheduler"] = SCHEDULERS.get(name, name)
    for name in ("image", "mask"):
        if name in given:
            asked[name] = picture_in(given[name], field=name)
    if "image" in given and (strength := given.get("strength", given.get("prompt_strength"))) is not None:
        asked["strength"] = strength
    if "reference_images" in given:
        pictures = given["reference_images"]
        asked["reference_images"] = tuple(picture_in(text, field="reference_images") for text in pictures)
    image_format = given.get("output_format", "png").replace("jpg", "jpeg")
    return Wishes(
        prompt=given["prompt"],
        model=model.slug,
        num_images=given.get("num_outputs", 1),
        image_format=image_format,
        **asked,
    )


def terms_of(body: Mapping[str, Any], *, deadline_seconds: float | None, address: str) -> Terms:
    """How a request wants to be handled."""
    if not body.get("webhook"):
        return Terms(deadline_seconds=deadline_seconds)
    kinds = [EVENTS[name] for name in body.get("webhook_events_filter") or EVENTS]
    return Terms(
        deadline_seconds=deadline_seconds,
        webhook_url=body["webhook"],
        webhook_events=tuple(dict.fromkeys(kinds)),
        webhook_words=f"{NAME} {address}",
    )


def prediction(generation: Generation, *, output: list[str] | None, urls: Mapping[str, str]) -> dict[str, Any]:
    """A generation as Replicate shows it."""
    return {
        "id": str(generation.pk),
        "model": f"{OWNER}/{generation.model.slug}",
        "version": generation.model.slug,
        "status": STATUSES.get(Status(generation.status), str(generation.status)),
        "input": input_of(generation),
        "output": output,
        "logs": logs_of(generation),
        "error": generation.error_detail or None,
        "metrics": metrics_of(generation),
        "created_at": in_iso_8601(generation.created_at),
        "started_at": in_iso_8601(generation.started_at),
        "completed_at": in_iso_8601(generation.finished_at),
        "urls": dict(urls),
        "data_removed": False,
        "source": "api",
    }


def as_it_ran(shown: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as it was at an event before its end, whatever has become of it since."""
    logs = f"{progress_line(facts['step'], facts['total'])}\n" if "step" in facts else ""
    running: dict[str, Any] = {
        "status": STATUSES[Status.RUNNING],
        "output": None,
        "error": None,
        "completed_at": None,
        "metrics": {},
    }
    return dict(shown) | running | {"logs": logs}


def input_of(generation: Generation) -> dict[str, Any]:
    """What is drawn; pictures that it begins with are shown by our own API."""
    shown = {name: getattr(generation, name) for name in ("prompt", *SAME_NAMES)}
    own = {"num_outputs": generation.num_images, "output_format": generation.image_format}
    strength = {} if generation.strength is None else {"prompt_strength": generation.strength}
    return shown | own | strength


def logs_of(generation: Generation) -> str:
    """The seed, and a line like tqdm's, which the client reads the progress from."""
    line = progress_line(generation.step, generation.total_steps)
    return f"Using seed: {generation.seed}\n{line}\n" if generation.step else f"Using seed: {generation.seed}\n"


def progress_line(step: int, total: int) -> str:
    """How far it is, as tqdm puts it."""
    done = BAR_WIDTH * step // max(1, total)
    return f"{100 * step // max(1, total):3d}%|{'#' * done:<{BAR_WIDTH}}| {step}/{total}"


def metrics_of(generation: Generation) -> dict[str, float]:
    """Seconds: of the run, and from the request to the end."""
    if generation.finished_at is None:
        return {}
    total = {"total_time": (generation.finished_at - generation.created_at).total_seconds()}
    if generation.started_at is None:
        return total
    return total | {"predict_time": (generation.finished_at - generation.started_at).total_seconds()}


def in_iso_8601(moment: datetime | None) -> str | None:
    """A time in UTC."""
    return moment.isoformat() if moment else None


def data_url(data: bytes, image: Image) -> str:
    """A file in the text itself: the client takes links for files only if they begin with https."""
    return f"data:{image.content_type};base64,{b64encode(data).decode()}"


def model_of(model: DiffusionModel, *, url: str) -> dict[str, Any]:
    """A model as Replicate shows it."""
    return {
        "url": url,
        "owner": OWNER,
        "name": model.slug,
        "description": model.name,
        "visibility": "public",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version_of(model),
    }


def version_of(model: DiffusionModel) -> dict[str, Any]:
    """The one version that a model has."""
    output = {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"}
    taken = {"type": "object", "title": "Input", "required": ["prompt"], "properties": properties()}
    return {
        "id": model.slug,
        "created_at": in_iso_8601(model.created_at),
        "cog_version": "0.9.0",
        "openapi_schema": {"components": {"schemas": {"Input": taken, "Output": output}}},
    }


def deployment_of(owner: str, name: str) -> dict[str, Any]:
    """A model as a deployment; what it runs on is none of the client's business here."""
    return {"owner": owner, "name": name, "current_release": None}


def file_of(stored: Input, *, name: str, urls: Mapping[str, str]) -> dict[str, Any]:
    """An input as Replicate shows a file."""
    return {
        "id": str(stored.pk),
        "name": name,
        "content_type": stored.content_type,
        "size": stored.size_bytes,
        "etag": stored.sha256,
        "checksums": {"sha256": stored.sha256},
        "metadata": {},
        "created_at": in_iso_8601(stored.created_at),
        "expires_at": in_iso_8601(stored.expires_at),
        "urls": dict(urls),
    }


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem detail as Replicate puts it: that is one too, but faults of the input are `invalid_fields`."""
    faults: Sequence[Mapping[str, str]] = problem.get("errors", ())
    shown = {"title": problem["title"], "detail": problem["detail"], "status": problem["status"]}
    if not faults:
        return shown
    fields = [
        {"type": fault["code"], "field": field_of(fault["pointer"]), "description": fault["detail"]} for fault in faults
    ]
    unprocessable = {"title": "Input validation failed", "status": HTTPStatus.UNPROCESSABLE_ENTITY}
    return shown | unprocessable | {"invalid_fields": fields}


def field_of(pointer: str) -> str:
    """The name of a faulty member, from our pointer."""
    parts = pointer.strip("/").split("/")
    name = NAMES.get(parts[-1], parts[-1])
    return ".".join([*parts[:-1], name]) if len(parts) > 1 else f"input.{name}"
