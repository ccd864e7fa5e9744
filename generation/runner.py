"""One generation on this worker, from claim to commit; read it top to bottom."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError, connection

from generation import dispatch, input_pixels, kill_points, storage
from generation.engines.encoding import encode_all
from generation.engines.errors import DeviceLost, EngineError, ModelUnavailable
from generation.engines.types import GeneratedImages
from generation.events.publisher import tell
from generation.input_pixels import InputLost
from generation.lifecycle import CancelReason, SeenBy, Status
from generation.models import Attempt, Generation, Image
from generation.places import GiveUp
from generation.preparation import AWAY, Preparation, prepare
from generation.runtimes.errors import BadMessage, ServerFailed, ServerUnavailable
from generation.storage import Picture, StorageUnavailable
from generation.watch import CancelRequested, ClaimLost, DeadlinePassed, Draining, Stop, Watch
from generation.worker import Worker

logger = logging.getLogger(__name__)

PAUSES_WITHOUT_DATABASE_SECONDS = (0.5, 1, 2, *[4] * 7)


def run(generation_id: UUID, dispatch_no: int, *, worker: Worker) -> None:
    """Run a dispatched generation. What the run itself raises never leaves: it would wedge Celery's thread."""
    with worker.running():
        try:
            run_dispatched(generation_id, dispatch_no, worker)
        except AWAY as error:
            # Celery acknowledges the message in any case, so the row must not wait for it.
            logger.warning(
                "The message of %s:%s is given back, the database answers: %s", generation_id, dispatch_no, error
            )
            settle(lambda: hand_back(generation_id, dispatch_no))


def run_dispatched(generation_id: UUID, dispatch_no: int, worker: Worker) -> None:
    """Find, load, claim, run, store, commit; or give it back."""
    generation = find(generation_id, dispatch_no)
    if generation is None:
        logger.info("Dispatch %s of %s is stale; nothing to do.", dispatch_no, generation_id)
        return
    if worker.refuses(generation):
        generation.unmark_dispatched()
        return

    with worker.holding(generation):  # a model may take minutes to load
        ready = prepare(generation, worker)
    if isinstance(ready.fault, ServerUnavailable):
        logger.warning("%s is given back before it was claimed: %s", generation, ready.fault)
        generation.unmark_dispatched()
        return
    # Who is to be alone waits for all others; its message, made anew meanwhile, would wait again, and again be late.
    hold = worker.holding(generation) if generation.runs_alone else nullcontext()
    takes = worker.places_of(ready.request)
    with hold, worker.places.place(generation.model, takes=takes, alone=generation.runs_alone) as give_up_place:
        attempt = generation.claim(
            device=worker.device, dispatch_no=dispatch_no, process=worker.process, from_step=ready.found.step
        )
        if attempt is None:
            logger.info("%s was claimed or cancelled meanwhile; nothing to do.", generation)
            return
        kill_points.reach("after_claim", generation.pk)
        tell(generation)
        dispatch.notify(generation)
        run_claimed(generation, attempt, ready, worker=worker, on_drawn=give_up_place)
    if generation.is_finished:
        ready.saving.forget()
    dispatch.notify(generation)
    if worker.device.quarantined_at is not None and generation.status == Status.SUCCEEDED:
        worker.device.trust(tested_at=attempt.started_at, note=f"The test picture {generation} succeeded.")
    dispatch.top_up(generation.model)


def run_claimed(
    generation: Generation, attempt: Attempt, ready: Preparation, *, worker: Worker, on_drawn: GiveUp
) -> None:
    """Run, store, commit; or give it back. After the last step the next one may begin: decoding is off its path."""
    with worker.watching(generation, attempt, ready.saving, on_drawn=on_drawn) as watch:
        try:
            watch.check()
            if ready.fault is not None:
                raise ready.fault
            if ready.found.note:
                begin_anew(generation, attempt, ready.found.note, watch=watch)
            made = draw(generation, attempt, ready, watch=watch, worker=worker)
            watch.check()
            images = store(made, generation, attempt)
            kill_points.reach("after_upload", generation.pk)
            finish(generation, attempt, images)
            kill_points.reach("after_result_commit", generation.pk)
            tell(generation)
            logger.info("%s succeeded on %s, %.1f s in the pipeline.", generation, worker.device, made.pipeline_seconds)
        except BaseException as error:  # an exception that left a task would wedge the worker for good
            give_back(generation, attempt, error, watch=watch, worker=worker)


def draw(
    generation: Generation, attempt: Attempt, ready: Preparation, *, watch: Watch, worker: Worker
) -> GeneratedImages:
    """Run the pipeline, or the rest of it; however it is left, that moment is noted."""
    generate = partial(worker.runtime.generate, ready.request, on_step=watch.on_step)
    try:
        return generate(resume_from=ready.found.state)
    except Exception as error:
        has_gone_on = ready.found.state is None or watch.step > ready.found.step
        if has_gone_on or isinstance(error, (Stop, DeviceLost, ServerUnavailable)):
            raise
        # Whatever is wrong with the state, the request is as good as ever.
        begin_anew(generation, attempt, str(error), watch=watch)
        return generate()
    finally:
        watch.leave()


def begin_anew(generation: Generation, attempt: Attempt, reason: str, *, watch: Watch) -> None:
    """Note that the attempt begins at the first step although a state had been saved."""
    logger.warning("%s begins at its first step: %s", attempt, reason)
    watch.begin_anew()
    settle(lambda: generation.begin_anew(attempt, note=reason))


def hand_back(generation_id: UUID, dispatch_no: int) -> bool:
    """Have the message made anew; False if it has brought the generation to a claim, or is stale."""
    generation = find(generation_id, dispatch_no)
    return generation is not None and generation.unmark_dispatched()


def find(generation_id: UUID, dispatch_no: int) -> Generation | None:
    """The generation if this dispatch is its latest and it still waits."""
    waiting = Generation.objects.queued().select_related("model")
    return waiting.filter(pk=generation_id, dispatch_no=dispatch_no).first()


def store(made: GeneratedImages, generation: Generation, attempt: Attempt) -> list[Image]:
    """Encode the pixels and put them on storage, outside any transaction."""
    started = time.perf_counter()
    numbered = range(len(made.pixels))
    beginnings = input_pixels.digests_of(generation)
    metadata = [metadata_of(generation, index, beginnings) for index in numbered]
    encoded = encode_all(list(made.pixels), image_format=generation.image_format, metadata=metadata)
    height, width = made.pixels.shape[1:3]
    images = [
        storage.store(Picture(image, thumbnail, width, height), generation=generation, attempt=attempt, index=index)
        for index, (image, thumbnail) in zip(numbered, encoded, strict=True)
    ]
    attempt.pipeline_seconds = made.pipeline_seconds
    attempt.peak_memory_bytes = made.peak_memory_bytes
    attempt.note_cost(made.cost)
    attempt.store_seconds = time.perf_counter() - started
    return images


def metadata_of(generation: Generation, index: int, beginnings: list[dict[str, str]]) -> dict[str, str]:
    """What the file of an image says inside: all that it takes to make it again, but for the pictures' own pixels."""
    parameters: dict[str, object] = {
        "width": generation.width,
        "height": generation.height,
        "num_inference_steps": generation.num_inference_steps,
        "guidance_scale": generation.guidance_scale,
        "scheduler": generation.scheduler or "default",
        "reproducible": generation.is_reproducible,
    }
    if beginnings:
        parameters |= {"strength": generation.strength, "inputs": beginnings}
    return {
        "prompt": generation.prompt,
        "negative_prompt": generation.negative_prompt,
        "model": generation.model.slug,
        "seed": str(generation.seed + index),
        "parameters": json.dumps(parameters),
        "Software": "Pictor",
    }


def finish(generation: Generation, attempt: Attempt, images: list[Image]) -> None:
    """Commit the success; raises the reason if somebody else has decided meanwhile."""

    def commit() -> bool:
        # The second question is for a commit that took effect while its answer got lost with the connection.
        return generation.succeed(attempt, images=images) or attempt.has_succeeded()

    if not settle(commit):
        generation.refresh_from_db()
        is_ours = generation.status == Status.RUNNING and generation.claim_token == attempt.claim_token
        raise CancelRequested(SeenBy.FLAG) if is_ours else ClaimLost


def give_back(generation: Generation, attempt: Attempt, error: BaseException, *, watch: Watch, worker: Worker) -> None:
    """Give an attempt that did not succeed its defined end, and remove what it has stored."""

    def cancel(seen_by: SeenBy, reason: CancelReason = CancelReason.REQUEST) -> bool:
        ago = watch.seconds_since_left()
        return generation.cancel(attempt, seen_by=seen_by, reason=reason, step=watch.step, freed_seconds_ago=ago)

    has_moved = False
    match error:
        case CancelRequested():
            has_moved = settle(lambda: cancel(error.seen_by))
        case DeadlinePassed():
            has_moved = settle(lambda: cancel(SeenBy.DEADLINE, CancelReason.DEADLINE))
        case Draining():
            known = {"step": watch.step, "saved_step": watch.saving.saved_step, "total_steps": watch.total}
            has_moved = settle(lambda: generation.release(attempt, **known) or cancel(SeenBy.FLAG))
        case ClaimLost():
            logger.warning("The claim on %s is lost; its result is dropped.", generation)
        case OperationalError() | InterfaceError() | InternalError():
            # Whether the last commit took effect is not known, so no file is touched: the housekeeper will find out.
            logger.error("The database stays away, so %s ends when its lease does: %s", attempt, error)
            return
        case DeviceLost():
            logger.error("%s has failed: %s", worker.device, error)
            has_moved = settle(lambda: generation.lose(attempt, detail=str(error)))
            worker.give_up()
        case ServerUnavailable():
            logger.error("%s lost its model server: %s", attempt, error)
            worker.note_loss()
            has_moved = settle(lambda: generation.lose(attempt, detail=str(error)))
        case _:
            code, detail = explain(error, generation)
            attempt.peak_memory_bytes = getattr(error, "peak_memory_bytes", None)
            cause = f"{type(error).__name__}: {error}"
            has_moved = settle(lambda: generation.fail(attempt, code=code, detail=detail, cause=cause, step=watch.step))
    if has_moved:
        tell(generation)
    logger.info("%s ended as %s at step %s of %s.", attempt, generation.status, watch.step, watch.total)
    if generation.status != Status.SUCCEEDED:  # it has, where something failed only after the commit
        storage.try_to_remove_attempt(attempt)  # what fails here is the housekeeper's to repeat


def explain(error: BaseException, generation: Generation) -> tuple[str, str]:
    """The code and the sentence for the owner, who has no use for paths and addresses of this installation."""
    match error:
        case ServerFailed() | BadMessage():
            logger.error("%s: %s", generation, error)
            return error.code, "The model server failed; operators can see why."
        case ModelUnavailable():
            logger.error("%s: %s", generation, error)
            return error.code, f"The model {generation.model.slug} cannot be used right now; operators can see why."
        case EngineError():
            return error.code, str(error)
        case StorageUnavailable():
            logger.error("%s: %s", generation, error)
            return error.code, "The storage did not take or give images. Try again later; operators can see why."
        case InputLost():
            return "input_lost", f"{error} Submit it anew with another picture."
        case _:
            logger.error("%s failed unexpectedly.", generation, exc_info=error)
            return "internal_error", f"The worker met an unexpected {type(error).__name__}; its log has the details."


def settle(verb: Callable[[], bool]) -> bool:
    """Carry out a final verb, patiently: a database away for seconds must not cost the GPU's work.

    If it stays away the lease runs out, and the housekeeper gives the generation its end.
    """
    for pause in PAUSES_WITHOUT_DATABASE_SECONDS:
        try:
            return verb()
        except AWAY as error:
            logger.warning("The database answers %s; trying again in %s s.", error, pause)
            connection.close()
            time.sleep(pause)
    return verb()
