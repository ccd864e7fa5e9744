"""A batcher of tiny modules, for the tests of who shares a forward with whom."""

from collections.abc import Iterator

import pytest

from generation.engines import batching
from tests.engines.tiny import Denoiser, Threads, open_threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    """A batcher, and threads that ask it."""
    with open_threads() as threads:
        yield threads


@pytest.fixture
def denoiser(threads: Threads) -> Iterator[Denoiser]:
    """A denoiser whose gate is open at the end, for the batcher to close."""
    denoiser = Denoiser()
    yield denoiser
    denoiser.gate.set()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is given up because of the time."""
    monkeypatch.setattr(batching, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", 60.0)


@pytest.fixture
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for room looks whether it is still wanted without a pause."""
    monkeypatch.setattr(batching, "_CHECK_WHILE_WAITING_SECONDS", 0.001)
