"""From an ImageRequest to what OpenAI's Images API takes, and back from what it answers; pure functions.

https://platform.openai.com/docs/api-reference/images. Beside its names stand those that vLLM-Omni, SGLang-Diffusion and
Pictor itself take: `seed`, `negative_prompt`, `num_inference_steps`, `guidance_scale`, and `strength` for edits.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from generation.engines.errors import (
    EngineError,
    InvalidOutput,
    ModelUnavailable,
    OutOfMemory,
    UnsupportedParameter,
)
from generation.engines.types import ImageRequest, ModelSource
from generation.runtimes.errors import ServerBusy, ServerFailed, ServerUnavailable
from generation.runtimes.gateway.conversation import Message

MOST_PARTIAL_IMAGES = 3
# What a server may refuse to know: it is then asked without.
OPTIONAL = {
    "response_format": "b64_json",
    "output_format": "png",
    "stream": True,
    "partial_images": MOST_PARTIAL_IMAGES,
}
STREAMING = {"stream", "partial_images"}  # neither is of use without the other
AWAY = (408, 502, 503, 504)
CLIENTS_FAULT = (400, 413, 422)
CODES = {error.code: error for error in (UnsupportedParameter, OutOfMemory, InvalidOutput, ModelUnavailable)}

Files = list[tuple[str, tuple[str, bytes, str]]]


def check(request: ImageRequest) -> None:
    """Raise UnsupportedParameter for what this API has no word for."""
    if request.scheduler:
        raise UnsupportedParameter("This model is served where no scheduler can be chosen. Leave it out.")
    if request.is_reproducible:
        raise UnsupportedParameter(
            "This model is served where nobody promises the same bits. Leave `reproducible` out."
        )


def fields_of(request: ImageRequest, *, model: str, index: int) -> dict[str, Any]:
    """What is asked for picture `index` of a request; each is asked for alone, as servers count seeds differently."""
    fields: dict[str, Any] = {
        "model": model,
        "prompt": request.prompt,
        "n": 1,
        "size": f"{request.width}x{request.height}",
        "seed": request.seed + index,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
    }
    if request.negative_prompt:
        fields["negative_prompt"] = request.negative_prompt
    if request.strength is not None:
        fields["strength"] = request.strength
    return fields


def files_of(request: ImageRequest) -> Files:
    """The pictures that it begins with; a mask is transparent where to paint."""
    if request.references:
        return [("image[]", as_file("image", picture)) for picture in request.references]
    if request.image is None:
        return []
    files = [("image", as_file("image", request.image))]
    if request.mask is not None:
        height, width = request.mask.shape
        mask = np.zeros((height, width, 4), dtype=np.uint8)
        mask[..., 3] = 255 - request.mask
        files.append(("mask", as_file("mask", mask)))
    return files


def as_file(name: str, pixels: np.ndarray) -> tuple[str, bytes, str]:
    """A picture as a part of a form."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return f"{name}.png", buffer.getvalue(), "image/png"


def form_of(fields: dict[str, Any]) -> dict[str, str]:
    """Fields as the texts of a form."""
    return {name: json.dumps(value) if not isinstance(value, str) else value for name, value in fields.items()}


def models_in(answer: Message) -> tuple[str, ...] | None:
    """What a server calls its models; None if it does not list them. Raises EngineError."""
    if answer.status in (404, 405):
        return None
    if answer.status >= 400:
        raise error_in(answer)
    listed = parsed(answer).get("data")
    if not isinstance(listed, list):
        return None
    return tuple(str(model.get("id")) for model in listed if isinstance(model, dict))


def name_of(model: ModelSource, known: tuple[str, ...] | None, *, url: str) -> str:
    """What the server calls the model: as its slug, or as its source. Raises ModelUnavailable if it has neither."""
    if known is None:
        return model.source
    for name in (model.slug, model.source):
        if name in known:
            return name
    raise ModelUnavailable(
        f"{url} serves {', '.join(known) or 'nothing'}, and neither {model.slug} nor {model.source}. "
        "Give the model's row one of these names as its source."
    )


def parsed(message: Message) -> dict[str, Any]:
    """The JSON object of an answer. Raises ServerFailed for anything else."""
    try:
        body = json.loads(message.text)
    except ValueError as error:
        raise ServerFailed(f"The server answered {message.status} with what is no JSON.") from error
    if not isinstance(body, dict):
        raise ServerFailed(f"The server answered {message.status} with JSON that is no object.")
    return body


def is_partial(message: Message) -> bool:
    """Whether it is an event with a partial image."""
    return message.is_event and str(parsed(message).get("type", "")).endswith(".partial_image")


def picture_of(message: Message) -> np.ndarray:
    """The pixels in an answer or an event, uint8 (height, width, 3). Raises EngineError if it is something else."""
    body = parsed(message) if message.status < 400 else {"error": None}
    if "error" in body:
        raise error_in(message)
    entries = body.get("data", [body])
    entry = entries[0] if isinstance(entries, list) and entries else None
    text = entry.get("b64_json") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise ServerFailed("The server answered without a picture in Base64.")
    try:
        with Image.open(BytesIO(b64decode(text, validate=True))) as picture:
            return np.asarray(picture.convert("RGB"))
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ServerFailed(f"The server answered with a picture that cannot be read: {error}") from error


def check_size(pixels: np.ndarray, request: ImageRequest) -> None:
    """Raise UnsupportedParameter for a picture of another size than was asked for."""
    height, width = pixels.shape[:2]
    if (width, height) != (request.width, request.height):
        raise UnsupportedParameter(
            f"The server drew {width}x{height} pixels instead of {request.width}x{request.height}. Ask for that size."
        )


def refused_in(answer: Message, fields: dict[str, Any]) -> set[str]:
    """The optional fields that an answer complains of."""
    if answer.status not in (400, 422):
        return set()
    refused = {name for name in OPTIONAL if name in fields and re.search(rf"\b{name}\b", answer.text)}
    return refused | (STREAMING & fields.keys() if refused & STREAMING else set())


def error_in(answer: Message) -> EngineError:
    """What an answer that is no success, or an event with an error, means."""
    code, message = complaint_in(answer)
    if answer.status == 429:
        return ServerBusy(f"The server is busy: {message}")
    if answer.status in AWAY:
        return ServerUnavailable(f"The server answered {answer.status}: {message}")
    if answer.status in (401, 403):
        return ModelUnavailable(f"The server refuses the key: {message} Set PICTOR_GATEWAY_API_KEY.")
    if code in CODES:
        return CODES[code](message)
    if answer.status == 404 or code == "model_not_found":
        return ModelUnavailable(f"The server has no such model or path: {message}")
    if answer.status in CLIENTS_FAULT:
        return UnsupportedParameter(message)
    return ServerFailed(f"The server failed: {message}")


def complaint_in(answer: Message) -> tuple[str, str]:
    """The code and the message of an error, in OpenAI's shape or FastAPI's; else the beginning of what was sent."""
    try:
        body = json.loads(answer.text)
        complaint = body.get("error") or body.get("detail") or body
        if isinstance(complaint, dict) and "message" in complaint:
            return str(complaint.get("code")), str(complaint["message"])
        return "", complaint if isinstance(complaint, str) else json.dumps(complaint)[:500]
    except (ValueError, AttributeError):
        return "", answer.text[:500]
