"""The thread in which a device in quarantine tests itself: a picture of its own that succeeds ends the quarantine.

The picture is real, small and nobody's: it has no row and is not stored. What kills its worker, or fails, is tried
again after twice the time (`Device.begin_self_test`).
"""

import logging
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from django.db import Error, connection

from generation import kill_points
from generation.engines.errors import DeviceLost
from generation.engines.types import ImageRequest, Progress
from generation.models import DiffusionModel
from generation.runtimes.errors import ServerUnavailable
from generation.watch import Draining

if TYPE_CHECKING:
    from generation.worker import Worker

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
PROMPT = "a red apple"
STEPS = 4


class SelfTest(Thread):
    """Looks each second whether the device is to be tested; what it knows of its row comes from the heartbeat."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__(name="self-test", daemon=True)
        self.worker = worker
        self._stopped = Event()

    def run(self) -> None:
        """Look until stopped; a database that is away for a while ends nothing here."""
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
            except Error as error:
                logger.warning("No test, the database answers: %s", error)
                connection.close()
            except Exception:
                logger.exception("A test could not be made.")
        connection.close()

    def stop(self) -> None:
        """Look no more; a test that runs ends at its next step, for the worker drains."""
        self._stopped.set()

    def look(self) -> None:
        """Make a test picture if it is time to."""
        device = self.worker.device
        if device.quarantined_at is None or not self.worker.is_able or self.worker.is_draining.is_set():
            return
        model = device.models_to_test_with().first()
        if model is not None and device.begin_self_test():
            self.test(model)

    def test(self, model: DiffusionModel) -> None:
        """Draw, and write down what came of it."""
        device = self.worker.device
        logger.warning("%s is in quarantine and tests itself with %s.", device, model)
        try:
            with self.worker.running():
                self.draw(model)
        except Draining:
            device.note_self_test(f"Its test picture {device.self_tests} was stopped with its worker.")
        except BaseException as error:  # whatever it is that makes this device sick
            logger.error("%s has failed its test: %r", device, error)
            device.note_self_test(f"Its test picture {device.self_tests} failed: {type(error).__name__}: {error}")
            if isinstance(error, DeviceLost):
                self.worker.give_up()
            elif isinstance(error, ServerUnavailable):
                self.worker.note_loss()
        else:
            device.pass_self_test()
        finally:
            self.worker.test_stepped_at = None

    def draw(self, model: DiffusionModel) -> None:
        """One picture of the usual size, in few steps, by the way that any generation goes."""
        runtime = self.worker.runtime
        runtime.load(model.model_source)
        self.worker.test_stepped_at = time.monotonic()  # from here on it may hang: the heartbeat looks
        runtime.generate(request_for(model), on_step=self.on_step)

    def on_step(self, progress: Progress) -> None:
        """Note that it goes on, and stop where the worker does."""
        self.worker.test_stepped_at = time.monotonic()
        kill_points.reach("self-test", str(self.worker.device))
        if self.worker.is_draining.is_set():
            raise Draining


def request_for(model: DiffusionModel) -> ImageRequest:
    """The test picture, as the engine is asked for it."""
    return ImageRequest(
        model=model.model_source,
        prompt=PROMPT,
        negative_prompt="",
        width=model.default_width,
        height=model.default_height,
        num_inference_steps=min(STEPS, model.default_num_inference_steps),
        guidance_scale=model.default_guidance_scale,
        seed=0,
        num_images=1,
        scheduler="",
    )
