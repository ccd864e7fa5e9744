"""How soon the line moves on: a rough answer, for who has to be told when to ask again."""

import math

from generation.lifecycle import Outcome, Status
from generation.models import Attempt, Device, DiffusionModel, Generation
from generation.models.positions import position_of
from generation.models.queries import GenerationQuerySet

LOOKED_AT = 100
UNKNOWN_SECONDS = 5.0
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 3600


def seconds_until_one_starts(waiting: GenerationQuerySet) -> int:
    """Until the first of the waiting ones among these is claimed: those ahead of it, shared out to all slots."""
    first = waiting.queued().select_related("model").first()
    if first is None:
        return SHORTEST_SECONDS
    ahead = position_of(first) or 1
    return bounded(ahead * seconds_per_start(first.model))


def seconds_until_one_ends(unfinished: GenerationQuerySet) -> int:
    """Until the first of these is finished: the one that has got furthest, or else the first that starts."""
    running = list(unfinished.running().select_related("model"))
    if not running:
        first = unfinished.queued().select_related("model").first()
        run = seconds_per_run(first.model) if first else 0
        return bounded(seconds_until_one_starts(unfinished) + run)
    return bounded(min((1 - generation.fraction) * seconds_per_run(generation.model) for generation in running))


def seconds_per_start(model: DiffusionModel) -> float:
    """The time between two claims of `model`, with every slot that serves it at work."""
    return seconds_per_run(model) / max(1, Device.objects.slots_for(model))


def seconds_per_run(model: DiffusionModel) -> float:
    """How long attempts have taken lately: those of the model, or else any; a guess where there are none."""
    lately = list(
        Attempt.objects.filter(resumed_from_step=None)
        .order_by("-pk")
        .values_list("generation__model", "outcome", "started_at", "ended_at")[:LOOKED_AT]
    )
    done = [(pk, (end - start).total_seconds()) for pk, how, start, end in lately if end and how == Outcome.SUCCEEDED]
    seconds = [took for pk, took in done if pk == model.pk] or [took for _, took in done]
    return sum(seconds) / len(seconds) if seconds else UNKNOWN_SECONDS


def bounded(seconds: float) -> int:
    """Whole seconds that make sense to wait."""
    return max(SHORTEST_SECONDS, min(LONGEST_SECONDS, math.ceil(seconds)))


def seconds_until_the_line_is_shorter() -> int:
    """Until any generation leaves the line."""
    return seconds_until_one_starts(Generation.objects.filter(status=Status.QUEUED))
