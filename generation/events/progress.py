"""The progress of one running generation as events: cheap enough for every step."""

import logging
import time
from functools import partial
from typing import Any

from generation.conf import configuration
from generation.engines import encoding
from generation.engines.types import Progress
from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.models import Generation

logger = logging.getLogger(__name__)

SHARE_OF_THE_NEWEST = 0.2  # in the moving average of the time that a step takes
PREVIEW_SECONDS = 1.0  # between two previews of one generation
PREVIEWS_APART_SECONDS = 0.1  # between two of all generations of this worker

_next_preview_at = 0.0


class ProgressReport:
    """Told of each step by the run's own thread, it tells the publisher."""

    def __init__(self, generation: Generation) -> None:
        self._owner = str(generation.owner_id)
        self._generation = str(generation.pk)
        self._num_images = generation.num_images
        self._stepped_at: float | None = None
        self._seconds_per_step: float | None = None
        self._has_previews = configuration().has_previews
        self._next_preview_at = 0.0

    def on_step(self, progress: Progress) -> None:
        """Note the time and leave the rest to the publisher's thread."""
        now = time.monotonic()
        self._measure(now)
        publisher.publish(Event(self._owner, Kind.PROGRESS, self._generation, self._data(progress)))
        if self._wants_preview(progress, now):
            self._preview(progress)

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

    def _wants_preview(self, progress: Progress, now: float) -> bool:
        """Whether it is time for one, for somebody who listens; the last step is soon followed by the image."""
        global _next_preview_at
        if not self._has_previews or now < max(self._next_preview_at, _next_preview_at):
            return False
        if progress.step >= progress.total or not publisher.hears(self._owner, self._generation):
            return False
        self._next_preview_at = now + PREVIEW_SECONDS
        _next_preview_at = now + PREVIEWS_APART_SECONDS
        return True

    def _preview(self, progress: Progress) -> None:
        try:
            pixels = progress.preview()
        except Exception:  # an ornament must not end a generation
            logger.exception("There are no previews of %s.", self._generation)
            pixels = None
        if pixels is None:
            self._has_previews = False  # there is no way to draw one for this pipeline
            return
        draw, data = partial(encoding.preview, pixels), {"step": progress.step, "total": progress.total}
        publisher.publish(Event(self._owner, Kind.PREVIEW, self._generation, data, draw=draw))
