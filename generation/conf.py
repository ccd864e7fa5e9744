"""The domain's settings, typed: the one place where `generation` reads `django.conf.settings`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings

from generation.quotas import Limits
from generation.runtimes.gateway.addresses import Upstream

MAX_BACK_OFF = 6  # doublings of the time until a message is published again


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
    broker_seconds: float
    max_attempts: int
    webhooks_may_be_private: bool
    slots: dict[str, int]
    hang_seconds: float
    save_seconds: float
    saves_in_redis: bool
    retention: timedelta | None
    keeps_rows: bool
    engine_dir: Path
    engine: str
    runtime: str
    runtime_address: str
    runtime_token: str
    gateway_upstreams: tuple[Upstream, ...]
    gateway_api_key: str
    compiles: bool
    webhook_dialects: Mapping[str, str]
    webhook_signers: Mapping[str, str]
    max_input_bytes: int
    max_input_pixels: int
    input_lifetime: timedelta
    redis_url: str
    redis_prefix: str
    has_previews: bool
    max_waiting: int | None
    limits_per_user: Limits

    def back_off(self, last: timedelta | None) -> timedelta:
        """How long a message may be on the way: twice as long as the last, where that is on the way still."""
        return self.redispatch if last is None else min(2 * last, self.redispatch * 2**MAX_BACK_OFF)


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
        broker_seconds=settings.BROKER_TIMEOUT_SECONDS,
        max_attempts=settings.MAX_ATTEMPTS,
        webhooks_may_be_private=settings.WEBHOOKS_MAY_BE_PRIVATE,
        slots={"cuda": settings.GPU_SLOTS, "cpu": settings.CPU_SLOTS},
        hang_seconds=settings.HANG_SECONDS,
        save_seconds=settings.SAVE_SECONDS,
        # Where a RabbitMQ is the broker and no Redis is named, each host has one of its own.
        saves_in_redis=bool(settings.REDIS_URL) or settings.EVENTS_URL == settings.BROKER_URL,
        retention=timedelta(days=settings.RETENTION_DAYS) if settings.RETENTION_DAYS else None,
        keeps_rows=settings.RETENTION_REMOVES == "images",
        engine_dir=settings.ENGINE_DIR,
        engine=settings.ENGINE,
        runtime=settings.RUNTIME,
        runtime_address=settings.RUNTIME_ADDRESS,
        runtime_token=settings.RUNTIME_TOKEN,
        gateway_upstreams=settings.GATEWAY_UPSTREAMS,
        gateway_api_key=settings.GATEWAY_API_KEY,
        compiles=settings.COMPILE,
        webhook_dialects=settings.WEBHOOK_DIALECTS,
        webhook_signers=settings.WEBHOOK_SIGNERS,
        max_input_bytes=settings.MAX_INPUT_BYTES,
        max_input_pixels=settings.MAX_INPUT_PIXELS,
        input_lifetime=timedelta(seconds=settings.INPUT_SECONDS),
        redis_url=settings.EVENTS_URL,
        redis_prefix=settings.BROKER_PREFIX,
        has_previews=settings.PREVIEWS,
        max_waiting=settings.MAX_WAITING or None,
        limits_per_user=Limits(
            waiting=settings.MAX_WAITING_PER_USER or None,
            unfinished=settings.MAX_UNFINISHED_PER_USER or None,
            running=settings.MAX_RUNNING_PER_USER or None,
            event_streams=settings.MAX_EVENT_STREAMS_PER_USER or None,
            pixel_steps_per_day=settings.MAX_PIXEL_STEPS_PER_DAY or None,
            requests_per_minute=settings.MAX_REQUESTS_PER_MINUTE or None,
        ),
    )
