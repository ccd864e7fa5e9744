"""From fal's words to ours and back; nothing here asks the database."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from api.dialects.pictures import picture_in
from api.dialects.shapes import size_of
from generation.lifecycle import CancelReason, Status
from generation.models import DiffusionModel, Generation, Image
from generation.parameters import Wishes

NAME = "fal"
SAME_NAMES = ("negative_prompt", "num_inference_steps", "guidance_scale", "seed", "scheduler", "num_images")
TASKS = ("text-to-image", "image-to-image", "inpainting", "inpaint", "edit")
NAMES = {
    "width": "image_size",
    "height": "image_size",
    "image": "image_url",
    "mask": "mask_url",
    "reference_images": "image_urls",
    "format": "output_format",
}
CLIENTS_FAULT = ("unsupported_parameter", "input_lost")
TYPES = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 422: "validation_error"}
CANCELLED_BY_CLIENT = 499  # fal's own, as nginx has it


class State(StrEnum):
    """Where a request is, in fal's words: whatever is over is completed, with an error if there was one."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"


class Cancelled(StrEnum):
    """What came of a cancel."""

    OK = "OK"
    CANCELLATION_REQUESTED = "CANCELLATION_REQUESTED"
    ALREADY_COMPLETED = "ALREADY_COMPLETED"


def slug_of(name: str, path: str) -> str:
    """The slug in `owner/name/path`: `fal-ai/flux/dev` is flux-dev, and `owner/sdxl/image-to-image` sdxl."""
    return "-".join([name, *(part for part in path.split("/") if part and part not in TASKS)])


def wishes_of(given: Mapping[str, Any], model: DiffusionModel, *, is_low: bool) -> Wishes:
    """What an input asks for."""
    asked: dict[str, Any] = {name: given[name] for name in SAME_NAMES if name in given}
    if "image_size" in given:
        asked["width"], asked["height"] = given["image_size"]
    elif "aspect_ratio" in given:
        asked["width"], asked["height"] = size_of(given["aspect_ratio"], model)
    for ours, theirs in (("image", "image_url"), ("mask", "mask_url")):
        if theirs in given:
            asked[ours] = picture_in(given[theirs], field=ours)
    if "strength" in given and "image" in asked:
        asked["strength"] = given["strength"]
    if given.get("image_urls"):
        pictures = given["image_urls"]
        asked["reference_images"] = tuple(picture_in(url, field="reference_images") for url in pictures)
    return Wishes(
        prompt=given["prompt"],
        model=model.slug,
        image_format=given.get("output_format", "png"),
        priority=-1 if is_low else 0,
        **asked,
    )


def state_of(generation: Generation) -> State:
    """Where it is."""
    if generation.is_finished:
        return State.COMPLETED
    return State.IN_PROGRESS if generation.status == Status.RUNNING else State.IN_QUEUE


def status_of(generation: Generation, *, urls: Mapping[str, str], has_logs: bool) -> dict[str, Any]:
    """The answer to a question for the status."""
    state = state_of(generation)
    shown: dict[str, Any] = {"status": str(state), "request_id": str(generation.pk)} | dict(urls)
    if state == State.IN_QUEUE:
        return shown | {"queue_position": (generation.position or 1) - 1}
    shown["logs"] = logs_of(generation) if has_logs else None
    if state == State.IN_PROGRESS:
        return shown
    return shown | {"metrics": metrics_of(generation)} | failure_of(generation)


def logs_of(generation: Generation) -> list[dict[str, str]]:
    """One line: how far it is."""
    moment = generation.finished_at or generation.started_at or generation.created_at
    message = f"{generation.step}/{generation.total_steps} steps"
    return [{"timestamp": moment.isoformat(), "level": "INFO", "source": "USER", "message": message}]


def metrics_of(generation: Generation) -> dict[str, float]:
    """The seconds of the run."""
    if generation.started_at is None or generation.finished_at is None:
        return {}
    return {"inference_time": (generation.finished_at - generation.started_at).total_seconds()}


def failure_of(generation: Generation) -> dict[str, str]:
    """Why it made no images, if it is over and made none."""
    if generation.status == Status.CANCELLED:
        is_late = generation.cancel_reason == CancelReason.DEADLINE
        kind = "request_timeout" if is_late else "client_cancelled"
        return {"error": "The request was cancelled.", "error_type": kind}
    if generation.status == Status.FAILED:
        return {"error": generation.error_detail, "error_type": generation.error_code}
    return {}


def failure_status_of(generation: Generation) -> int:
    """The HTTP status of the result of what made no images."""
    if generation.status == Status.CANCELLED:
        is_late = generation.cancel_reason == CancelReason.DEADLINE
        return HTTPStatus.GATEWAY_TIMEOUT if is_late else CANCELLED_BY_CLIENT
    is_clients_fault = generation.error_code in CLIENTS_FAULT
    return HTTPStatus.UNPROCESSABLE_ENTITY if is_clients_fault else HTTPStatus.INTERNAL_SERVER_ERROR


def result_of(generation: Generation, images: Sequence[tuple[Image, str]]) -> dict[str, Any]:
    """The images by their links, and what they were made of."""
    return {
        "images": [
            {
                "url": url,
                "width": image.width,
                "height": image.height,
                "content_type": image.content_type,
                "file_name": image.download_name,
                "file_size": image.size_bytes,
            }
            for image, url in images
        ],
        "seed": generation.seed,
        "prompt": generation.prompt,
        "timings": {"inference": metrics_of(generation).get("inference_time")},
        "has_nsfw_concepts": [False for _ in images],
    }


def preview_of(generation: Generation, data_url: str) -> dict[str, Any]:
    """An event of a stream: the images as far as they are, small."""
    return {"images": [{"url": data_url, "content_type": "image/webp"}], "seed": generation.seed}


def webhook_of(generation: Generation, images: Sequence[tuple[Image, str]]) -> dict[str, Any]:
    """The body of a webhook about the end."""
    request_id = str(generation.pk)
    body: dict[str, Any] = {"request_id": request_id, "gateway_request_id": request_id}
    if failure := failure_of(generation):
        detail = {"detail": failure["error"], "error_type": failure["error_type"]}
        return body | {"status": "ERROR", "error": failure["error"], "payload": detail}
    return body | {"status": "OK", "payload": result_of(generation, images)}


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem detail in fal's shape: of a faulty input a list, as FastAPI has it."""
    faults: Sequence[Mapping[str, str]] = problem.get("errors", ())
    if faults:
        detail = [
            {"loc": ["body", *place_of(fault["pointer"])], "msg": fault["detail"], "type": fault["code"]}
            for fault in faults
        ]
        return {"detail": detail, "error_type": TYPES[HTTPStatus.UNPROCESSABLE_ENTITY]}
    return {"detail": problem["detail"], "error_type": TYPES.get(problem["status"], "internal_error")}


def place_of(pointer: str) -> list[str]:
    """The name of a faulty member, from our pointer."""
    return [NAMES.get(part, part) for part in pointer.strip("/").split("/") if part]
