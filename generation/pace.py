"""How fast things go: how large generations are, how long they have taken of late, and how many run side by side."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, pstdev
from typing import Any, TypeVar

from generation.lifecycle import Outcome
from generation.models import Attempt, Device, Generation

T = TypeVar("T")

USUAL_SECONDS = 1.0  # of a unit of work, where none has been measured yet
RECENT = 200  # attempts, of all models


@dataclass(frozen=True, slots=True)
class Seconds:
    """A length of time that is not known exactly: half of them are shorter than p50, nine tenths than p90."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model's line moves: the slots for runs like its latest ones, and the lengths of these in seconds.

    `per_work` is the time of a unit of `work`, for generations differ in size.
    """

    slots: int
    mean: float
    spread: float
    per_work: Seconds


_answers: dict[tuple[str, int], tuple[float, Any]] = {}


def work(num_inference_steps: int, num_images: int, width: int, height: int) -> float:
    """How large a generation is: the pixels of all its steps, in millions."""
    return num_inference_steps * num_images * width * height / 1e6


def work_of(generation: Generation) -> float:
    """The same for a row."""
    return work(generation.num_inference_steps, generation.num_images, generation.width, generation.height)


def seconds_of(model_id: int, amount: float) -> float:
    """How long so much work takes, as far as is known."""
    pace = pace_of(model_id)
    return amount * (USUAL_SECONDS if pace is None else pace.per_work.p50)


def pace_of(model_id: int) -> Pace | None:
    """How fast the model's line moves, measured twice a minute; None if nothing has run or nobody serves it."""
    return remembered(measure, model_id, for_seconds=30)


def running_of(model_id: int) -> int:
    """How many of the model run; asked once for a whole page of waiting ones."""
    return remembered(Generation.objects.running_of, model_id, for_seconds=0.5)


def remembered(ask: Callable[[int], T], model_id: int, *, for_seconds: float) -> T:
    """What `ask` answers for the model, asked anew only when the last answer is older than that."""
    key = (ask.__name__, model_id)
    if key not in _answers or time.monotonic() - _answers[key][0] > for_seconds:
        _answers[key] = (time.monotonic(), ask(model_id))
    return _answers[key][1]


def measure(model_id: int) -> Pace | None:
    """The pace by the latest attempts: by their ids, so that it is the same quick look however many there are."""
    latest = Attempt.objects.select_related("generation__model", "device").order_by("-id")
    latest = latest.defer("error_detail", "generation__prompt", "generation__negative_prompt")[:RECENT]
    whole = [run for run in latest if run.outcome == Outcome.SUCCEEDED and run.resumed_from_step is None]
    runs = [run for run in whole if run.generation.model_id == model_id]
    slots = Device.objects.slots_for(runs[0].generation.model) if runs else 0
    if slots == 0:
        return None
    slots = max(1, round(slots / mean(places_of(run) for run in runs)))
    lengths = [run.length.total_seconds() for run in runs]
    per_work = sorted(seconds / work_of(run.generation) for seconds, run in zip(lengths, runs, strict=True))
    return Pace(slots, mean(lengths), pstdev(lengths), Seconds(quantile(per_work, 0.5), quantile(per_work, 0.9)))


def places_of(run: Attempt) -> int:
    """How many places of its device a run took."""
    size = run.generation.num_images * run.generation.width * run.generation.height
    return run.device.places_of(run.generation.model, size) if run.device is not None else 1


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
