"""What a worker asks of a runtime, whether the engine is in its own process or behind a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from generation.engines.packed_state import PackedState
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelFacts,
    ModelSource,
    OnStep,
)

if TYPE_CHECKING:
    from generation.engines.state import SavedState


class Runtime(Protocol):
    """One device's engine. Any thread may call any method; failures are EngineError."""

    def describe(self) -> DeviceDescription:
        """What the device is; asked of what is at the other end, so that an error tells that it cannot be reached."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models in memory, as far as is known here: nobody else is asked."""

    def load(self, model: ModelSource) -> None:
        """Have the model in memory; another one under the same slug makes way first."""

    def unload(self, slug: str) -> None:
        """Forget a model, if it is there."""

    def facts(self) -> tuple[ModelFacts, ...]:
        """What is known here of each model in memory: nobody else is asked."""

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model."""

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for, or the rest of it; what on_step raises ends it and comes out unchanged."""

    def close(self) -> None:
        """Forget all models and let go of the device."""


def facts_of(runtime: Runtime, slug: str) -> ModelFacts:
    """What is known there of a model; where that is nothing, one at a time is enough."""
    unknown = ModelFacts(slug, at_once=1, is_batched=False, is_reproducible=False, reason="It is not loaded.", rows={})
    return next((facts for facts in runtime.facts() if facts.slug == slug), unknown)
