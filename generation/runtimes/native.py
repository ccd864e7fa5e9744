"""The engine in the worker's own process."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    LinkCost,
    ModelFacts,
    ModelSource,
    OnStep,
)

if TYPE_CHECKING:
    from generation.engines.engine import Engine
    from generation.engines.state import SavedState

ENGINE = "generation.engines.engine:Engine"


def open_engine(device: str, *, folder: Path | None, compiles: bool, engine: str = ENGINE) -> Engine:
    """An engine on a device that torch knows by this name; `engine` is `module:class` with the interface of ours."""
    opened: Engine = resolve_name(engine)(device, folder=folder, compiles=compiles)
    return opened


class NativeRuntime:
    """A Runtime without anything between worker and engine; torch is imported when one is made."""

    def __init__(
        self, device: str, *, folder: Path | None = None, compiles: bool = False, engine: str = ENGINE
    ) -> None:
        self._engine = open_engine(device, folder=folder, compiles=compiles, engine=engine)

    def describe(self) -> DeviceDescription:
        """What the device is."""
        return self._engine.describe()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models in memory."""
        return self._engine.loaded

    def load(self, model: ModelSource) -> None:
        """Have the model in memory; another one under the same slug makes way first."""
        self._engine.load(model)

    def unload(self, slug: str) -> None:
        """Forget a model, if it is there."""
        self._engine.unload(slug)

    def facts(self) -> tuple[ModelFacts, ...]:
        """What is known of each model in memory."""
        return self._engine.facts()

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model."""
        return self._engine.schedulers(slug)

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for, or the rest of it; what on_step raises ends it and comes out unchanged."""
        started = time.perf_counter()
        made = self._engine.generate(request, on_step=on_step, resume_from=resume_from)
        waited = time.perf_counter() - started - made.pipeline_seconds
        return replace(made, cost=LinkCost(serialise_ms=0.0, transfer_ms=0.0, wait_ms=1000 * waited))

    def close(self) -> None:
        """Forget all models."""
        self._engine.close()
