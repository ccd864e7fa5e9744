"""Values as frames, and frames as values; what comes from outside is looked at before it is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from generation.engines.errors import EngineError, OutOfMemory, UnsupportedParameter
from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelFacts,
    ModelSource,
    Offers,
    Progress,
)
from generation.runtimes.errors import BadMessage, ServerBusy, ServerFailed
from generation.runtimes.frames import MOST_PAYLOAD_BYTES, Frame, Kind

if TYPE_CHECKING:
    from generation.engines.state import SavedState

SOURCE_TYPES: dict[str, type | tuple[type, ...]] = {
    "slug": str,
    "source": str,
    "revision": (str, type(None)),
    "dtype": str,
    "may_save_memory": bool,
}
REQUEST_TYPES: dict[str, type | tuple[type, ...]] = {
    "prompt": str,
    "negative_prompt": str,
    "width": int,
    "height": int,
    "num_inference_steps": int,
    "guidance_scale": (int, float),
    "seed": int,
    "num_images": int,
    "scheduler": str,
    "is_reproducible": bool,
    "strength": (int, float, type(None)),
}
SERVER_TIMES_TYPES: dict[str, type | tuple[type, ...]] = {
    "total_seconds": (int, float),
    "serialise_seconds": (int, float),
}
DIMENSIONS = {"image": 3, "mask": 2, "reference": 3, "state": 1}


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a server tells of itself; `instance` is drawn at its start, and `slots` is how many it runs at once."""

    instance: str
    device: DeviceDescription
    models: tuple[ModelFacts, ...]
    slots: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """Seconds from a request's arrival until its result was packed; how many went into unpacking and packing."""

    total_seconds: float
    serialise_seconds: float


def pack_request(request: ImageRequest, resume_from: SavedState | PackedState | None = None) -> Frame:
    """A GENERATE. Raises UnsupportedParameter for pictures that are none, or more than a frame holds."""
    header: dict[str, Any] = {name: getattr(request, name) for name in REQUEST_TYPES}
    header["model"] = asdict(request.model)
    named = list(_pictures(request))
    if resume_from is not None:
        header["resume_from"] = {"step": resume_from.step, "total": resume_from.total}
        named.append(("state", np.frombuffer(resume_from.to_bytes(), np.uint8)))
    header["parts"] = [{"name": name, "shape": array.shape} for name, array in named]
    if sum(array.nbytes for _, array in named) > MOST_PAYLOAD_BYTES:
        raise UnsupportedParameter("The pictures are too large together for a model server. Send smaller ones.")
    return Frame(Kind.GENERATE, header, tuple(array.data.cast("B") for _, array in named if array.size))


def unpack_request(frame: Frame) -> tuple[ImageRequest, PackedState | None]:
    """What to draw, and what to go on from. Raises BadMessage."""
    values = typed(frame.header, REQUEST_TYPES, of="a request")
    parts = _unpack_parts(frame)
    state = None
    if "resume_from" in frame.header:
        place = typed(frame.header["resume_from"], {"step": int, "total": int}, of="resume_from")
        if len(parts["state"]) != 1:
            raise BadMessage("A request that goes on has one part named state.")
        state = PackedState(place["step"], place["total"], parts["state"][0].tobytes())
    request = ImageRequest(
        **values,
        model=unpack_source(frame.header.get("model")),
        image=next(iter(parts["image"]), None),
        mask=next(iter(parts["mask"]), None),
        references=tuple(parts["reference"]),
    )
    return request, state


def unpack_source(header: Any) -> ModelSource:
    """Where a model's weights are. Raises BadMessage."""
    return ModelSource(**typed(header, SOURCE_TYPES, of="a model"))


def pack_source(source: ModelSource) -> dict[str, Any]:
    """As JSON."""
    return asdict(source)


def unpack_progress(frame: Frame, offers: Callable[[int, int], Offers]) -> Progress:
    """A step, which has offers if the server's own has any. Raises BadMessage."""
    place = typed(frame.header, {"step": int, "total": int, "has_offers": bool}, of="a step")
    return Progress(
        place["step"], place["total"], offers(place["step"], place["total"]) if place["has_offers"] else None
    )


def pack_images(made: GeneratedImages, times: ServerTimes) -> Frame:
    """A RESULT."""
    pixels = np.ascontiguousarray(made.pixels)
    header = {
        "shape": pixels.shape,
        "pipeline_seconds": made.pipeline_seconds,
        "peak_memory_bytes": made.peak_memory_bytes,
        "times": asdict(times),
    }
    return Frame(Kind.RESULT, header, (pixels.data.cast("B"),))


def unpack_times(frame: Frame) -> ServerTimes:
    """Where the server's time went. Raises BadMessage."""
    return ServerTimes(**typed(frame.header.get("times"), SERVER_TIMES_TYPES, of="times"))


def unpack_images(frame: Frame) -> GeneratedImages:
    """The pixels, without a copy. Raises BadMessage."""
    known = typed(
        frame.header,
        {"pipeline_seconds": (int, float), "peak_memory_bytes": (int, type(None))},
        of="a result",
    )
    return GeneratedImages(pixels=_array(frame.payload, frame.header.get("shape"), dimensions=4), **known)


def pack_picture(kind: Kind, pixels: np.ndarray | None) -> Frame:
    """A small picture, uint8 (h, w, 3), or the news that there is none."""
    if pixels is None:
        return Frame(kind)
    pixels = np.ascontiguousarray(pixels)
    return Frame(kind, {"shape": pixels.shape}, (pixels.data.cast("B"),))


def unpack_picture(frame: Frame) -> np.ndarray | None:
    """The picture. Raises BadMessage."""
    return _array(frame.payload, frame.header["shape"], dimensions=3) if "shape" in frame.header else None


def pack_state(state: SavedState | PackedState | None) -> Frame:
    """A saved state, or the news that there is none."""
    if state is None:
        return Frame(Kind.SAVED)
    return Frame(Kind.SAVED, {"step": state.step, "total": state.total}, (state.to_bytes(),))


def unpack_state(frame: Frame) -> PackedState | None:
    """The state. Raises BadMessage."""
    if "step" not in frame.header:
        return None
    place = typed(frame.header, {"step": int, "total": int}, of="a state")
    return PackedState(place["step"], place["total"], frame.payload.tobytes())


def pack_server(server: ServerState) -> dict[str, Any]:
    """As JSON."""
    return asdict(server)


def unpack_server(header: Mapping[str, Any]) -> ServerState:
    """Raises BadMessage for what no model server says of itself."""
    try:
        return ServerState(
            instance=str(header["instance"]),
            device=DeviceDescription(**header["device"]),
            models=tuple(ModelFacts(**model) for model in header["models"]),
            slots=int(header["slots"]),
            in_flight=int(header["in_flight"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessage(f"This is no model server of this version: {error!r}.") from error


def pack_error(error: BaseException) -> dict[str, Any]:
    """As JSON; of what nobody foresaw only the name of its class."""
    if not isinstance(error, EngineError):
        return {"code": ServerFailed.code, "detail": f"The model server met an unexpected {type(error).__name__}."}
    more = {name: value for name, value in vars(error).items() if name in ("peak_memory_bytes", "retry_after_seconds")}
    return {"code": error.code, "detail": str(error), **more}


def unpack_error(header: Mapping[str, Any]) -> EngineError:
    """The same class that was packed."""
    detail = str(header.get("detail", "The server gave no reason."))
    match _error_class(header.get("code")):
        case cls if cls is OutOfMemory:
            return OutOfMemory(detail, peak_memory_bytes=header.get("peak_memory_bytes"))
        case cls if cls is ServerBusy:
            return ServerBusy(detail, retry_after_seconds=float(header.get("retry_after_seconds", 1)))
        case cls:
            return cls(detail)


def typed(header: Any, types: Mapping[str, Any], *, of: str) -> dict[str, Any]:
    """The named members, each of its type. Raises BadMessage."""
    if not isinstance(header, dict):
        raise BadMessage(f"{of} is an object of JSON.")
    for name, kind in types.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if name not in header or type(header[name]) not in allowed:
            words = " or ".join("null" if one is type(None) else one.__name__ for one in allowed)
            raise BadMessage(f"{name} of {of} is missing or not {words}.")
    return {name: header[name] for name in types}


def _pictures(request: ImageRequest) -> Iterator[tuple[str, np.ndarray]]:
    named = [("image", request.image), ("mask", request.mask), *(("reference", one) for one in request.references)]
    for name, array in named:
        if array is None:
            continue
        if array.dtype != np.uint8 or array.ndim != DIMENSIONS[name]:
            raise UnsupportedParameter(f"The {name} is no array of bytes of {DIMENSIONS[name]} dimensions.")
        yield name, np.ascontiguousarray(array)


def _unpack_parts(frame: Frame) -> dict[str, list[np.ndarray]]:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in DIMENSIONS}
    listed, start = frame.header.get("parts", []), 0
    if not isinstance(listed, list):
        raise BadMessage("parts is a list.")
    for part in listed:
        name = part.get("name") if isinstance(part, dict) else None
        if name not in parts:
            raise BadMessage(f"There is no part named {name!r}.")
        shape = _shape(part.get("shape"), dimensions=DIMENSIONS[name])
        end = start + math.prod(shape)
        parts[name].append(_array(frame.payload[start:end], shape, dimensions=DIMENSIONS[name]))
        start = end
    if start != len(frame.payload):
        raise BadMessage("The payload is longer than its parts.")
    return parts


def _array(payload: memoryview, shape: Any, *, dimensions: int) -> np.ndarray:
    shape = _shape(shape, dimensions=dimensions)
    if math.prod(shape) != len(payload):
        raise BadMessage(f"The shape {shape} does not fit {len(payload)} bytes.")
    return np.frombuffer(payload, np.uint8).reshape(shape)


def _shape(shape: Any, *, dimensions: int) -> tuple[int, ...]:
    is_list = isinstance(shape, (list, tuple)) and len(shape) == dimensions
    if not is_list or any(type(length) is not int or length < 1 for length in shape):
        raise BadMessage(f"A shape has {dimensions} whole numbers, each at least 1.")
    return tuple(shape)


def _error_class(code: Any) -> type[EngineError]:
    found: list[type[EngineError]] = [EngineError]
    for known in found:
        if known is not EngineError and known.code == code:
            return known
        found.extend(known.__subclasses__())
    return ServerFailed
