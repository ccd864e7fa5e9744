"""From OpenAI's words to ours and back; nothing here asks the database."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generation.lifecycle import Status
from generation.models import DiffusionModel, Generation, Image
from generation.parameters import Wishes
from generation.sources import Upload

# The denoise steps of a quality, as a share of the model's own.
STEPS_OF = {"low": 0.5, "high": 1.5, "hd": 1.5, "xhigh": 2.0, "max": 2.0}
NAMES = {
    "num_images": "n",
    "width": "size",
    "height": "size",
    "format": "output_format",
    "reference_images": "image",
}
SAME_NAMES = ("negative_prompt", "num_inference_steps", "guidance_scale", "seed", "scheduler", "strength")
TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {"not_authenticated": "invalid_api_key", "authentication_failed": "invalid_api_key"}
CLIENTS_FAULT = ("unsupported_parameter", "input_lost")


@dataclass(frozen=True, slots=True)
class Style:
    """How a client wants its answer."""

    has_links: bool
    is_stream: bool
    partial_images: int
    kind: str  # of the events of a stream

    @classmethod
    def of(cls, body: Mapping[str, Any], *, kind: str) -> "Style":
        """What the request says."""
        return cls(
            has_links=body.get("response_format") == "url",
            is_stream=bool(body.get("stream")),
            partial_images=body.get("partial_images", 0),
            kind=kind,
        )


def wishes_of(body: Mapping[str, Any], model: DiffusionModel) -> Wishes:
    """What a request asks for."""
    asked: dict[str, Any] = {name: body[name] for name in SAME_NAMES if name in body}
    if body.get("size", "auto") != "auto":
        asked["width"], asked["height"] = map(int, body["size"].split("x"))
    if share := STEPS_OF.get(body.get("quality", "auto")):
        steps = max(1, min(round(model.default_num_inference_steps * share), model.max_num_inference_steps))
        asked.setdefault("num_inference_steps", steps)
    return Wishes(
        prompt=body["prompt"],
        model=model.slug,
        num_images=body.get("n", 1),
        image_format=body.get("output_format", "png"),
        is_reproducible=body.get("reproducible", False),
        **asked,
        **pictures_of(body),
    )


def pictures_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """One image is redrawn, several are looked at; a mask says where to paint by its transparency."""
    files: Sequence[bytes] = body.get("image", ())
    uploads = tuple(Upload(data) for data in files)
    pictures: dict[str, Any] = {"image": uploads[0]} if len(uploads) == 1 else {"reference_images": uploads}
    return pictures | ({"mask": Upload(body["mask"], is_alpha_mask=True)} if "mask" in body else {})


def answer(generation: Generation, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The response with all images."""
    return {"data": data, "generation": str(generation.pk)} | facts(generation) | {"created": created(generation)}


def image_as_text(data: bytes, image: Image) -> dict[str, Any]:
    """One entry of the response, with the file in it."""
    return {"b64_json": b64encode(data).decode(), "seed": image.seed}


def image_as_link(link: str, image: Image) -> dict[str, Any]:
    """One entry of the response, with a link to the file."""
    return {"url": link, "seed": image.seed}


def partial_event(generation: Generation, *, picture: str, index: int, style: Style) -> dict[str, Any]:
    """A preview in a stream; `picture` is in Base64."""
    event = {"type": f"{style.kind}.partial_image", "b64_json": picture, "partial_image_index": index}
    return event | facts(generation) | {"created_at": created(generation)}


def completed_event(generation: Generation, *, image: dict[str, Any], style: Style) -> dict[str, Any]:
    """One finished image in a stream."""
    tokens = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}  # nothing here is counted in them
    usage = tokens | {"input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}
    event = {"type": f"{style.kind}.completed", "usage": usage, "generation": str(generation.pk)}
    return event | image | facts(generation) | {"created_at": created(generation)}


def facts(generation: Generation) -> dict[str, Any]:
    """What is told of the images wherever they are."""
    return {
        "background": "opaque",
        "output_format": generation.image_format,
        "quality": "auto",
        "size": f"{generation.width}x{generation.height}",
    }


def created(generation: Generation) -> int:
    """The time, in seconds since 1970, at which it ended or else began."""
    return int((generation.finished_at or generation.created_at).timestamp())


def model_of(model: DiffusionModel) -> dict[str, Any]:
    """A model as OpenAI lists them."""
    return {"id": model.slug, "object": "model", "created": int(model.created_at.timestamp()), "owned_by": "pictor"}


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem detail in OpenAI's shape; of several faults the first."""
    first = problem.get("errors", [{}])[0]
    name = first.get("pointer", "").strip("/").partition("/")[0]
    code = first.get("code", problem["code"])
    param = NAMES.get(name, name) or None
    message = first.get("detail", problem["detail"])
    if param == "model":
        code = "model_not_found"
    return error(problem["status"], code=CODES.get(code, code), message=message, param=param)


def error(status: int, *, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's shape."""
    usual = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": TYPES.get(status, usual), "param": param, "code": code}}


def failure_of(generation: Generation) -> tuple[int, dict[str, Any]]:
    """The status code and the error of a generation that has made no images."""
    if generation.status == Status.CANCELLED:
        return 409, error(409, code=str(Status.CANCELLED), message="The generation was cancelled.")
    if generation.status == Status.FAILED:
        status = 400 if generation.error_code in CLIENTS_FAULT else 500
        return status, error(status, code=generation.error_code, message=generation.error_detail)
    message = f"It takes longer than answers can wait. See /api/generations/{generation.pk}/."
    return 504, error(504, code="timeout", message=message)


def stopping() -> tuple[int, dict[str, Any]]:
    """The status code and the error where this process ends before the generation does."""
    message = "This process stops. Send the same request again, as a further try, to wait for the same generation."
    return 503, error(503, code="unavailable", message=message)
