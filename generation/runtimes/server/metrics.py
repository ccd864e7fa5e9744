"""What a model server counts, for Prometheus (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from generation.engines.types import GeneratedImages
from generation.runtimes.packing import pack_error
from generation.runtimes.server.job import Cancelled

if TYPE_CHECKING:
    from generation.runtimes.server.host import Host

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Of one server; what it is and has now is read when somebody asks."""

    def __init__(self, host: Host) -> None:
        self._registry = registry = CollectorRegistry()
        self.generations = Counter("pictor_generations", "Generations that ended.", ["outcome"], registry=registry)
        self.refused = Counter("pictor_refused", "Generations refused for want of a slot.", registry=registry)
        self.images = Counter("pictor_images", "Images drawn.", registry=registry)
        self.pipeline = Histogram(
            "pictor_pipeline_seconds", "Time inside the pipeline call.", buckets=SECONDS, registry=registry
        )
        slots = Gauge("pictor_slots", "Generations that are run at once.", registry=registry)
        slots.set(host.slots)
        in_flight = Gauge("pictor_in_flight", "Generations that run now.", registry=registry)
        in_flight.set_function(lambda: len(host.jobs))
        models = Gauge("pictor_models_loaded", "Models in memory.", registry=registry)
        models.set_function(lambda: len(host.engine.loaded))

    def note(self, outcome: GeneratedImages | BaseException) -> None:
        """Count one that ended."""
        if isinstance(outcome, GeneratedImages):
            self.generations.labels("drawn").inc()
            self.images.inc(len(outcome.pixels))
            self.pipeline.observe(outcome.pipeline_seconds)
        elif isinstance(outcome, Cancelled):
            self.generations.labels("stopped").inc()
        else:
            self.generations.labels(pack_error(outcome)["code"]).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
