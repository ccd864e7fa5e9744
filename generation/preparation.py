"""What a worker gets ready before it claims a generation: the model, the pictures it begins with, a saved state."""

import logging
from dataclasses import dataclass

from django.db import InterfaceError, InternalError, OperationalError

from generation import input_pixels
from generation.conf import configuration
from generation.engines.errors import EngineError, ModelUnavailable
from generation.engines.types import ImageRequest
from generation.input_pixels import Pixels
from generation.models import Generation
from generation.saving import Found, Saving
from generation.worker import Worker

logger = logging.getLogger(__name__)

# What a database that is away answers; the last is PostgreSQL's to whoever was paused in a transaction.
AWAY = (OperationalError, InterfaceError, InternalError)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is got ready before a claim: the request, a state to go on from, or what is wrong with it."""

    request: ImageRequest
    saving: Saving
    found: Found
    fault: Exception | None


def prepare(generation: Generation, worker: Worker) -> Preparation:
    """All that may take longer than a lease, and so comes before the claim; loading even holds Python's lock."""
    fault: Exception | None = load(generation, worker)
    pixels, loss = fetch(generation)
    fault = fault or loss
    request = image_request(generation, pixels)
    saving = Saving(generation.pk, request, device=worker.device)
    may_go_on = fault is None and generation.attempt_count > 0
    found = saving.find(saved_step=generation.saved_step) if may_go_on else Found()
    return Preparation(request, saving, found, fault)


def load(generation: Generation, worker: Worker) -> EngineError | None:
    """Have the model in memory; what keeps it from loading is returned, to be told once it is claimed."""
    model = generation.model
    if model.slug not in worker.runtime.loaded:
        try:
            worker.runtime.describe()  # a server that is not there has not died of a load
        except EngineError as error:
            return error
        if generation.load_count >= configuration().max_attempts:
            return ModelUnavailable(f"{generation.load_count} workers died while they loaded {model.slug}.")
        generation.note_load()
    try:
        worker.runtime.load(model.model_source)
    except EngineError as error:
        return error
    except Exception as error:
        logger.exception("%s failed to load unexpectedly.", model)
        return ModelUnavailable(f"{model.slug} failed to load: {error}")
    return None


def fetch(generation: Generation) -> tuple[Pixels, Exception | None]:
    """What it begins with, from the storage; what keeps that from coming is returned, to be told once it is claimed."""
    try:
        return input_pixels.fetch(generation), None
    except AWAY:
        raise
    except Exception as error:
        return Pixels(), error


def image_request(generation: Generation, pixels: Pixels) -> ImageRequest:
    """What the engine is asked for."""
    return ImageRequest(
        model=generation.model.model_source,
        prompt=generation.prompt,
        negative_prompt=generation.negative_prompt,
        width=generation.width,
        height=generation.height,
        num_inference_steps=generation.num_inference_steps,
        guidance_scale=generation.guidance_scale,
        seed=generation.seed,
        num_images=generation.num_images,
        scheduler=generation.scheduler,
        is_reproducible=generation.is_reproducible,
        image=pixels.image,
        mask=pixels.mask,
        strength=generation.strength,
        references=pixels.references,
    )
