"""What of the service does not do its work right now, though it goes on accepting.

Each shortcoming has a code and a sentence that anybody may read, and the names of what is concerned, for operators.
"""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from generation import dispatch
from generation.caretaker import MISSED_AFTER
from generation.models import Device, DiffusionModel, Generation, Housekeeper


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """One thing that does not do its work."""

    code: str
    sentence: str
    names: tuple[str, ...] = ()


def shortcomings() -> list[Shortcoming]:
    """All of them; none where everything works. Raises what a database raises that is away."""
    return [found for look in (broker, housekeeper, models, devices) for found in look()]


def broker() -> list[Shortcoming]:
    """Whether messages get through."""
    if dispatch.can_reach_broker():
        return []
    sentence = "The broker does not answer. What is accepted waits in the database and is published when it is back."
    return [Shortcoming("broker_unavailable", sentence)]


def housekeeper() -> list[Shortcoming]:
    """Whether anybody whose task it is does the chores."""
    if Housekeeper.objects.alive(within=MISSED_AFTER).exists():
        return []
    sentence = "No housekeeper was seen lately. Workers stand in for it as long as there are any: start one."
    return [Shortcoming("no_housekeeper", sentence)]


def models() -> list[Shortcoming]:
    """Whether there are workers for all that waits."""
    waiting = Generation.objects.queued().filter(pinned_to=None, model=OuterRef("pk"))
    asked_for = DiffusionModel.objects.filter(Exists(waiting))
    names = tuple(model.slug for model in asked_for if not Device.objects.alive().serving(model).exists())
    if not names:
        return []
    sentence = f"Generations of {len(names)} model(s) wait, and no living device serves them: start a worker."
    return [Shortcoming("no_worker", sentence, names)]


def devices() -> list[Shortcoming]:
    """Whether one is in quarantine."""
    names = tuple(str(device) for device in Device.objects.exclude(quarantined_at=None))
    if not names:
        return []
    sentence = f"{len(names)} device(s) in quarantine: they lost their workers, and test themselves now and then."
    return [Shortcoming("device_in_quarantine", sentence, names)]
