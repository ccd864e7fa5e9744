"""The pipelines of one model, by what a generation begins with: noise, a picture, or a picture and a mask."""

from __future__ import annotations

import threading
from typing import Any

from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

from generation.engines.abilities import REFERENCES
from generation.engines.errors import UnsupportedParameter
from generation.engines.types import ImageRequest, Pipeline


class Variants:
    """Pipelines that share all parts of the one that was loaded; each is built when it is first asked for."""

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe
        self._built: dict[str, Pipeline] = {}
        self._lock = threading.Lock()

    def fitting(self, request: ImageRequest) -> Pipeline:
        """The pipeline that takes what the request begins with. Raises UnsupportedParameter if there is none."""
        if request.references:
            self._refuse_references(request)
        if request.image is None:
            _refuse_without_image(request)
            return self._pipe
        if request.mask is None:
            return self._build("image-to-image", AutoPipelineForImage2Image, parameter="image")
        return self._build("inpainting", AutoPipelineForInpainting, parameter="mask")

    def _refuse_references(self, request: ImageRequest) -> None:
        if type(self._pipe).__name__ not in REFERENCES:
            raise UnsupportedParameter("This model takes no reference images; leave out reference_images.")
        if request.image is not None:
            raise UnsupportedParameter("Give either image or reference_images.")

    def _build(self, task: str, kind: Any, *, parameter: str) -> Pipeline:
        with self._lock:
            if task not in self._built:
                try:
                    # Not the chosen class's own from_pipe, which converts the shared parts to float32.
                    pipe = kind.from_pipe(self._pipe)
                except ValueError as error:
                    raise UnsupportedParameter(f"This model has no {task} pipeline; leave out {parameter}.") from error
                pipe.set_progress_bar_config(disable=True)
                self._built[task] = pipe
            return self._built[task]


def _refuse_without_image(request: ImageRequest) -> None:
    if request.mask is not None:
        raise UnsupportedParameter("A mask says where to paint in an image. Give image too, or leave out mask.")
    if request.strength is not None:
        raise UnsupportedParameter("strength says how much of an image changes. Give image too, or leave out strength.")
