"""The line in front of a model: who goes before whom, where one stands in it, and how long it will take.

Priority comes first, then a fair share between owners, then age. The share is start-time fair queueing (Goyal, Vin and
Cheng, SIGCOMM 1996), with the clock as virtual time: a generation's turn comes when its owner's last one would have
ended, had the owner the line for itself, and for one who has nothing in it with the next in line. So a thousand
generations of one owner stretch over a long time, and a single one of another goes in near the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt

from django.db.models.functions import Now
from django.utils import timezone

from generation.lifecycle import FINISHED, Status
from generation.models import Generation
from generation.pace import Pace, Seconds, pace_of, running_of, seconds_of, work, work_of

SIZE = ("num_inference_steps", "num_images", "width", "height")
MOST_DEBT = 3  # generations' lengths that who has used a lot of late, but waits for nothing, goes behind others
HURRIED = -2  # the rank of those that have waited too long: before all priorities
Z_90 = 1.2816  # how many standard deviations above the mean nine tenths of a normal distribution lie


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long until a generation starts and until it ends."""

    starts_in: Seconds
    finishes_in: Seconds


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
