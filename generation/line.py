"""The line in front of a model: who goes before whom, where one stands in it, and how long it will take.

Priority comes first, then a fair share between owners, then age. The share is start-time fair queueing (Goyal, Vin and
Cheng, SIGCOMM 1996), with the clock as virtual time: a generation's turn comes when its owner's last one would have
ended, had the owner the line for itself, and for one who has nothing in it with the next in line. So a thousand
generations of one owner stretch over a long time, and a single one of another goes in near the front.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from statistics import mean, pstdev
from typing import Any, TypeVar

from django.db.models.functions import Now
from django.utils import timezone

from generation.lifecycle import FINISHED, Outcome, Status
from generation.models import Attempt, Device, Generation

T = TypeVar("T")

SIZE = ("num_inference_steps", "num_images", "width", "height")
USUAL_SECONDS = 1.0  # of a unit of work, where none has been measured yet
MOST_DEBT = 3  # generations' lengths that who has used a lot of late, but waits for nothing, goes behind others
RECENT = 200  # attempts, of all models
HURRIED = -2  # the rank of those that have waited too long: before all priorities
Z_90 = 1.2816  # how many standard deviations above the mean nine tenths of a normal distribution lie


@dataclass(frozen=True, slots=True)
class Seconds:
    """A length of time that is not known exactly: half of them are shorter than p50, nine tenths than p90."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long until a generation starts and until it ends."""

    starts_in: Seconds
    finishes_in: Seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model's line moves: the slots that serve it, and the lengths of its latest runs in seconds.

    `per_work` is the time of a unit of `work`, for generations differ in size.
    """

    slots: int
    mean: float
    spread: float
    per_work: Seconds


_answers: dict[tuple[str, int], tuple[float, Any]] = {}


def join(generation: Generation) -> None:
    """Give a new generation its place in the line; it is not saved yet."""
    generation.rank = -generation.priority
    if generation.pinned_to is not None:
        return  # they all go to the broker at once
    place = {"model": generation.model_id, "rank": generation.rank}
    next_one = Generation.objects.queued().shared().filter(**place).values_list(Now(), "turn_at").first()
    its_owners = Generation.objects.filter(owner=generation.owner_id, **place).exclude(status=Status.CANCELLED)
    last_one = its_owners.order_by("-turn_at").values_list(Now(), "turn_at", "status", *SIZE).first()
    now, next_turn = next_one or (last_one[0] if last_one else None, None)
    if now is None:
        return  # the database says what time it is when it stores the row
    _, last_turn, status, *size = last_one or (None, None, None)
    generation.turn_at = turn(
        now=now,
        next_turn=next_turn,
        last_turn=last_turn,
        has_one_waiting=status == Status.QUEUED,
        length=timedelta(seconds=seconds_of(generation.model_id, work(*size))) if size else timedelta(),
    )


def join_all(generations: Sequence[Generation]) -> None:
    """Give the new generations of one owner their places, each behind the one before; they are not saved yet."""
    ends: dict[tuple[int, int], datetime] = {}
    for generation in generations:
        place = (generation.model_id, generation.priority)
        if place in ends:
            generation.rank, generation.turn_at = -generation.priority, ends[place]
        else:
            join(generation)
        begins = generation.turn_at if isinstance(generation.turn_at, datetime) else timezone.now()
        length = timedelta(seconds=seconds_of(generation.model_id, work_of(generation)))
        ends[place] = begins + length


def turn(
    *,
    now: datetime,
    next_turn: datetime | None,
    last_turn: datetime | None,
    has_one_waiting: bool,
    length: timedelta,
) -> datetime:
    """When the turn of a new generation comes.

    `next_turn` is that of the next in line, `last_turn` that of the owner's last one and `length` how long that takes.
    """
    front = now if next_turn is None else min(now, next_turn)
    if last_turn is None:
        return front
    behind_its_own = last_turn + length
    if not has_one_waiting:
        behind_its_own = min(behind_its_own, front + MOST_DEBT * length)
    return max(front, behind_its_own)


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


def estimate(generation: Generation) -> Estimate | None:
    """How long until it starts and ends, going by the runs before it; None if it is over or nothing is known."""
    if generation.status in FINISHED:
        return None
    pace = pace_of(generation.model_id)
    if pace is None:
        return None
    left = work_of(generation) * (1 - generation.fraction)
    own = Seconds(pace.per_work.p50 * left, pace.per_work.p90 * left)
    if generation.position is None:
        return Estimate(starts_in=Seconds(0.0, 0.0), finishes_in=own)
    wait = wait_for(pace, ahead=generation.position - 1, running=running_of(generation.model_id))
    return Estimate(starts_in=wait, finishes_in=Seconds(wait.p50 + own.p50, wait.p90 + own.p90))


def wait_for(pace: Pace, *, ahead: int, running: int) -> Seconds:
    """How long until a slot is free for the one that has `ahead` before it in line.

    So many runs have to end before; each slot ends one in the mean length, and their sum is nearly normal.
    """
    ends = ahead + running - pace.slots + 1
    if ends <= 0:
        return Seconds(0.0, 0.0)
    middle = ends * pace.mean / pace.slots
    return Seconds(middle, middle + Z_90 * sqrt(ends) * pace.spread / pace.slots)


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
    latest = Attempt.objects.select_related("generation__model").order_by("-id")
    latest = latest.defer("error_detail", "generation__prompt", "generation__negative_prompt")[:RECENT]
    whole = [run for run in latest if run.outcome == Outcome.SUCCEEDED and run.resumed_from_step is None]
    runs = [run for run in whole if run.generation.model_id == model_id]
    slots = Device.objects.slots_for(runs[0].generation.model) if runs else 0
    if slots == 0:
        return None
    lengths = [run.length.total_seconds() for run in runs]
    per_work = sorted(seconds / work_of(run.generation) for seconds, run in zip(lengths, runs, strict=True))
    return Pace(slots, mean(lengths), pstdev(lengths), Seconds(quantile(per_work, 0.5), quantile(per_work, 0.9)))


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
