"""How soon the line moves on: a rough answer, for who has to be told when to ask again."""

import math

from generation.lifecycle import Status
from generation.models import Generation
from generation.models.positions import position_of
from generation.models.queries import GenerationQuerySet
from generation.pace import pace_of

UNKNOWN_SECONDS = 5.0
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 3600


def seconds_until_one_starts(waiting: GenerationQuerySet) -> int:
    """Until the first of the waiting ones among these is claimed: those ahead of it, shared out to all slots."""
    first = waiting.queued().first()
    if first is None:
        return SHORTEST_SECONDS
    ahead = position_of(first) or 1
    return bounded(ahead * seconds_per_start(first.model_id))


def seconds_until_one_ends(unfinished: GenerationQuerySet) -> int:
    """Until the first of these is finished: the one that has got furthest, or else the first that starts."""
    running = list(unfinished.running())
    if not running:
        first = unfinished.queued().first()
        run = seconds_per_run(first.model_id) if first else 0
        return bounded(seconds_until_one_starts(unfinished) + run)
    return bounded(min((1 - generation.fraction) * seconds_per_run(generation.model_id) for generation in running))


def seconds_per_start(model_id: int) -> float:
    """The time between two claims of the model, with every slot that serves it at work."""
    pace = pace_of(model_id)
    return UNKNOWN_SECONDS if pace is None else pace.mean / pace.slots


def seconds_per_run(model_id: int) -> float:
    """How long runs of the model have taken lately; a guess where there are none, or nobody serves it."""
    pace = pace_of(model_id)
    return UNKNOWN_SECONDS if pace is None else pace.mean


def bounded(seconds: float) -> int:
    """Whole seconds that make sense to wait."""
    return max(SHORTEST_SECONDS, min(LONGEST_SECONDS, math.ceil(seconds)))


def seconds_until_the_line_is_shorter() -> int:
    """Until any generation leaves the line."""
    return seconds_until_one_starts(Generation.objects.filter(status=Status.QUEUED))
