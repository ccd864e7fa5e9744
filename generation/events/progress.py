"""The progress of one running generation as events: cheap enough for every step."""

import time
from typing import Any

from generation.engines.types import Progress
from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.models import Generation

SHARE_OF_THE_NEWEST = 0.2  # in the moving average of the time that a step takes


class ProgressReport:
    """Told of each step by the run's own thread, it tells the publisher."""

    def __init__(self, generation: Generation) -> None:
        self._owner = str(generation.owner_id)
        self._generation = str(generation.pk)
        self._num_images = generation.num_images
        self._stepped_at: float | None = None
        self._seconds_per_step: float | None = None

    def on_step(self, progress: Progress) -> None:
        """Note the time and leave the rest to the publisher's thread."""
        self._measure(time.monotonic())
        self._publish(Kind.PROGRESS, self._data(progress))

    def _measure(self, now: float) -> None:
        """The first step begins with the prompt's encoding, so time is taken from its end on."""
        if self._stepped_at is not None:
            newest, usual = now - self._stepped_at, self._seconds_per_step
            self._seconds_per_step = newest if usual is None else usual + SHARE_OF_THE_NEWEST * (newest - usual)
        self._stepped_at = now

    def _data(self, progress: Progress) -> dict[str, Any]:
        data: dict[str, Any] = {"step": progress.step, "total": progress.total}
        seconds = self._seconds_per_step
        if not seconds:
            return data | {"images_per_second": None, "eta_seconds": None}
        rate = self._num_images / (seconds * progress.total)
        eta = seconds * (progress.total - progress.step)
        return data | {"images_per_second": round(rate, 4), "eta_seconds": round(eta, 2)}

    def _publish(self, kind: Kind, data: dict[str, Any]) -> None:
        publisher.publish(Event(self._owner, kind, self._generation, data))
