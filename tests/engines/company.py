"""Drawing alone, at once and one after another, with the engines of tiny models."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from generation.engines import batching
from generation.engines.engine import Engine
from generation.engines.types import ImageRequest, ModelSource, Progress
from tests.engines.models import family_engine, ignore

# Not the size that is examined at load, because the knee that was measured there is no constant.
WIDTH, HEIGHT = 96, 64
ROUNDING = 2  # of 255: other numbers of rows, other kernels


@contextmanager
def counting_rows(engine: Engine, source: ModelSource) -> Iterator[list[int]]:
    """The numbers of rows of all forwards of the denoiser in the block."""
    counts: list[int] = []
    pipe = engine._models[source.slug].pipe
    denoiser = getattr(pipe, "unet", None) or pipe.transformer

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counts.append(len(args[0] if args else kwargs["hidden_states"]))

    hook = denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        hook.remove()


def draw_alone(family: str, requests: Sequence[ImageRequest]) -> tuple[list[np.ndarray], list[int]]:
    """The pixels of each, and the number of rows that each has in a forward."""
    engine, source = family_engine(family)
    pixels, rows = [], []
    for request in requests:
        with counting_rows(engine, source) as counts:
            pixels.append(engine.generate(request, on_step=ignore).pixels)
        rows.append(max(counts))
    return pixels, rows


def draw_at_once(family: str, requests: Sequence[ImageRequest], *, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """All of them, of which none takes its second step before all have taken their first, and then in lockstep."""
    engine, _ = family_engine(family)

    def be_patient() -> None:
        monkeypatch.setattr(batching, "LINGER_SECONDS", 60.0)
        monkeypatch.setattr(batching, "PATIENCE_SECONDS", 60.0)

    all_are_members = threading.Barrier(len(requests), action=be_patient, timeout=60)

    def wait_for_all(progress: Progress) -> None:
        if progress.step == 1:
            all_are_members.wait()

    with ThreadPoolExecutor(len(requests)) as threads:
        drawn = [threads.submit(engine.generate, request, on_step=wait_for_all) for request in requests]
        return [future.result().pixels for future in drawn]


def draw_staggered(family: str, requests: Sequence[ImageRequest]) -> list[np.ndarray]:
    """Each begins when the one before it has taken two steps."""
    engine, _ = family_engine(family)
    begin = [threading.Event() for _ in range(len(requests) + 1)]
    begin[0].set()

    def draw(i: int) -> np.ndarray:
        def let_the_next_begin(progress: Progress) -> None:
            if progress.step == 2:
                begin[i + 1].set()

        begin[i].wait(60)
        return engine.generate(requests[i], on_step=let_the_next_begin).pixels

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(draw, range(len(requests))))


def differences(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[int]:
    """The largest difference of a pixel, of each pair."""
    return [int(np.abs(one.astype(int) - other).max()) for one, other in zip(some, others, strict=True)]
