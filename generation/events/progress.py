"""The progress of one running generation as events: cheap enough for every step."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any

from generation.conf import configuration
from generation.engines import encoding
from generation.engines.types import Progress
from generation.events.event import Event, Kind
from generation.events.publisher import publisher
from generation.models import Generation

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

SHARE_OF_THE_NEWEST = 0.2  # in the moving average of the time that a step takes
PREVIEW_SECONDS = 1.0  # between two previews of one generation
PREVIEWS_APART_SECONDS = 0.1  # between two of all generations of this worker

PREVIEWS_AT_ONCE = 4  # a device takes a step to make one, a model server that is far away a little more

_next_preview_at = 0.0
_threads = ThreadPoolExecutor(PREVIEWS_AT_ONCE, thread_name_prefix="previews")
_free = BoundedSemaphore(PREVIEWS_AT_ONCE)


class ProgressReport:
    """Told of each step by the run's own thread, it tells the publisher.

    Previews are only begun there: other threads wait for the device.
    """

    def __init__(self, generation: Generation) -> None:
        self._owner = str(generation.owner_id)
        self._generation = str(generation.pk)
        self._num_images = generation.num_images
        self._stepped_at: float | None = None
        self._seconds_per_step: float | None = None
        self._has_previews = configuration().has_previews
        self._next_preview_at = 0.0
        self._is_over = False
        self._lock = Lock()

    def on_step(self, progress: Progress) -> None:
        """Note the time and leave the rest to the publisher's thread."""
        now = time.monotonic()
        self._measure(now)
        publisher.publish(Event(self._owner, Kind.PROGRESS, self._generation, self._data(progress)))
        if self._wants_preview(progress, now):
            self._begin_preview(progress)

    def end(self) -> None:
        """The run has left the pipeline: a preview that is not there yet comes too late."""
        with self._lock:
            self._is_over = True

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
        """Whether it is time for one, for somebody who listens; the last step is soon followed by the image.

        A generation that only waits, or a model server that only says that it lives, offers none yet.
        """
        global _next_preview_at
        if progress.offers is None:
            return False
        if not self._has_previews or now < max(self._next_preview_at, _next_preview_at):
            return False
        if progress.step >= progress.total or not publisher.hears(self._owner, self._generation):
            return False
        self._next_preview_at = now + PREVIEW_SECONDS
        _next_preview_at = now + PREVIEWS_APART_SECONDS
        return True

    def _begin_preview(self, progress: Progress) -> None:
        if not _free.acquire(blocking=False):
            return  # what waits for the others takes long: more of them would not make it quicker
        data = {"step": progress.step, "total": progress.total}
        try:
            finish = progress.start_preview()
            drawing = _threads.submit(self._finish_preview, finish, data) if finish is not None else None
        except Exception:  # an ornament must not end a generation
            logger.exception("There are no previews of %s.", self._generation)
            drawing = None
        if drawing is not None:
            drawing.add_done_callback(lambda _: _free.release())
        else:
            self._has_previews = False  # there is no way to draw one for this pipeline
            _free.release()

    def _finish_preview(self, finish: "Callable[[], np.ndarray | None]", data: dict[str, Any]) -> None:
        try:
            pixels = finish()
        except Exception:
            logger.exception("There are no previews of %s.", self._generation)
            self._has_previews = False
            return
        if pixels is None:
            return  # this pipeline has none, or a model server ended before; the next one may have some
        event = Event(self._owner, Kind.PREVIEW, self._generation, data, draw=partial(encoding.preview, pixels))
        with self._lock:
            if not self._is_over:
                publisher.publish(event)
