"""A server that speaks OpenAI's Images API, as a runtime: Pictor's own service, vLLM-Omni, SGLang-Diffusion."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from generation.engines.errors import UnusableState
from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelFacts,
    ModelSource,
    OnStep,
    Progress,
)
from generation.runtimes.errors import ServerUnavailable
from generation.runtimes.gateway import openai_wire as wire
from generation.runtimes.gateway.conversation import Conversations, Message

if TYPE_CHECKING:
    from generation.engines.state import SavedState

logger = logging.getLogger(__name__)

NO_BATCHES = "OpenAI's API does not tell how its server works."


class OpenAIRuntime:
    """A Runtime without an engine of ours: what is not in the API, such as steps, it does not have.

    A server that streams partial images shows its progress by them, in quarters; one that cannot shows none. To leave
    a generation closes the connection; whether its server stops then is the server's affair. One that says nothing for
    `silence_seconds` is given up.
    """

    def __init__(self, url: str, *, api_key: str = "", at_once: int = 1, silence_seconds: float = 600.0) -> None:
        self._url = url
        self._at_once = at_once
        self._silence_seconds = silence_seconds
        self._server = Conversations(url, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._names: dict[str, str] = {}
        self._optional = dict(wire.OPTIONAL)

    def describe(self) -> DeviceDescription:
        """Where it is; what it runs on, nobody tells. Raises EngineError if it does not answer."""
        self._list_models()
        return DeviceDescription(kind="cpu", name=self._url, memory_bytes=0)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models that the server was seen to have."""
        return tuple(self._names)

    def load(self, model: ModelSource) -> None:
        """Look whether the server has the model: it cannot be told to load one. Raises EngineError if not."""
        if model.slug not in self._names:
            self._names[model.slug] = wire.name_of(model, self._list_models(), url=self._url)

    def unload(self, slug: str) -> None:
        """Forget that the server has it."""
        self._names.pop(slug, None)

    def facts(self) -> tuple[ModelFacts, ...]:
        """As many at once as the address says."""
        return tuple(
            ModelFacts(slug, at_once=self._at_once, is_batched=False, is_reproducible=False, reason=NO_BATCHES, rows={})
            for slug in list(self._names)
        )

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """None: the API has no word for them."""
        return ()

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for, one picture after another; what on_step raises ends it and comes out unchanged.

        on_step is called ten times a second, most often with the progress that it knows already. Raises EngineError.
        """
        wire.check(request)
        if resume_from is not None:
            raise UnusableState("This server cannot go on from a saved state. Start from the beginning.")
        self.load(request.model)
        started = time.perf_counter()
        pictures = [self._draw(request, index, on_step=on_step) for index in range(request.num_images)]
        return GeneratedImages(
            pixels=np.stack(pictures), pipeline_seconds=time.perf_counter() - started, peak_memory_bytes=None
        )

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _draw(self, request: ImageRequest, index: int, *, on_step: OnStep) -> np.ndarray:
        """One picture, uint8 (height, width, 3)."""
        steps, total = request.num_inference_steps, request.num_inference_steps * request.num_images
        fields = wire.fields_of(request, model=self._names[request.model.slug], index=index)
        files = wire.files_of(request)

        def tell(partial_images: int, picture: np.ndarray | None = None) -> None:
            share = partial_images / (wire.MOST_PARTIAL_IMAGES + 1)
            offers = PartialImage(picture) if picture is not None and index == 0 else None
            on_step(Progress(step=index * steps + int(share * steps), total=total, offers=offers))

        tell(0)
        pixels = self._ask(fields, files, tell=tell)
        wire.check_size(pixels, request)
        on_step(Progress(step=(index + 1) * steps, total=total))
        return pixels

    def _ask(self, fields: dict[str, Any], files: wire.Files, *, tell: Callable[..., None]) -> np.ndarray:
        """The picture of one request; asked once more without the optional fields that the server does not know."""
        while True:
            asked = fields | self._optional
            answer = self._last_message(asked, files, tell=tell)
            refused = wire.refused_in(answer, asked)
            if not refused:
                return wire.picture_of(answer)
            logger.info("%s does not take %s; it is asked without from now on.", self._url, ", ".join(sorted(refused)))
            for name in refused:
                self._optional.pop(name, None)

    def _last_message(self, asked: dict[str, Any], files: wire.Files, *, tell: Callable[..., None]) -> Message:
        """The answer, or the last event of a stream; partial images are told on the way. Raises ServerUnavailable."""
        content = {"data": wire.form_of(asked), "files": files} if files else {"json": asked}
        path = "images/edits" if files else "images/generations"
        last: Message | None = None
        partial_images = 0
        heard_at = time.monotonic()
        try:
            with closing(self._server.post(path, **content)) as messages:
                for message in messages:
                    if message is None:
                        self._check_silence(heard_at)
                        tell(partial_images)
                        continue
                    heard_at = time.monotonic()
                    if wire.is_partial(message):
                        partial_images = min(partial_images + 1, wire.MOST_PARTIAL_IMAGES)
                        tell(partial_images, wire.picture_of(message))
                    else:
                        last = message
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"{self._url} went away: {described(error)}") from error
        if last is None:
            raise ServerUnavailable(f"{self._url} ended its stream before there was a picture.")
        return last

    def _check_silence(self, heard_at: float) -> None:
        if time.monotonic() - heard_at > self._silence_seconds:
            raise ServerUnavailable(f"{self._url} has said nothing for {self._silence_seconds:g} s.")

    def _list_models(self) -> tuple[str, ...] | None:
        try:
            return wire.models_in(self._server.get("models"))
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"{self._url} does not answer: {described(error)}") from error


class PartialImage:
    """What a partial image offers: itself as a preview, and no state."""

    def __init__(self, picture: np.ndarray) -> None:
        self._picture = picture

    def copy_state(self) -> None:
        """There is none."""

    def start_preview(self) -> Callable[[], np.ndarray]:
        """The picture, uint8 (h, w, 3), which is there already."""
        return lambda: self._picture


def described(error: httpx.HTTPError) -> str:
    """An error of the connection; some have no words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
