"""The domain's settings, typed: the one place where `generation` reads `django.conf.settings`."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the domain needs to know; docs/configuration.md describes each value."""

    base_dir: Path
    max_prompt_length: int
    lease: timedelta
    beat_seconds: float
    sweep_seconds: float
    redispatch: timedelta
    longest_wait: timedelta
    max_attempts: int
    slots: dict[str, int]
    hang_seconds: float
    retention: timedelta | None
    keeps_rows: bool
    engine_dir: Path
    compiles: bool


def configuration() -> Configuration:
    """The settings as they are now (tests override them)."""
    return Configuration(
        base_dir=settings.BASE_DIR,
        max_prompt_length=settings.MAX_PROMPT_LENGTH,
        lease=timedelta(seconds=settings.LEASE_SECONDS),
        beat_seconds=settings.BEAT_SECONDS,
        sweep_seconds=settings.SWEEP_SECONDS,
        redispatch=timedelta(seconds=settings.REDISPATCH_SECONDS),
        longest_wait=timedelta(seconds=settings.LONGEST_WAIT_SECONDS),
        max_attempts=settings.MAX_ATTEMPTS,
        slots={"cuda": settings.GPU_SLOTS, "cpu": settings.CPU_SLOTS},
        hang_seconds=settings.HANG_SECONDS,
        retention=timedelta(days=settings.RETENTION_DAYS) if settings.RETENTION_DAYS else None,
        keeps_rows=settings.RETENTION_REMOVES == "images",
        engine_dir=settings.ENGINE_DIR,
        compiles=settings.COMPILE,
    )
