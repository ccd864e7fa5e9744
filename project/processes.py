"""The processes that Pictor consists of, as child specifications: web, workers, housekeeper and Flower."""

import asyncio
import os
import sys
from datetime import datetime
from functools import partial

import httpx
from django.conf import settings
from django.db import Error, connection

from generation.devices import local_host
from generation.dispatch import IO_QUEUE, device_queue
from generation.models import Device
from project.address import host_headers, local_url
from project.celery_options import WORKER_OPTIONS
from project.child import ChildSpec, ReadyCheck
from project.devices import DeviceSlot, openmp_env
from project.secrets import read_or_create
from project.sidecars import sidecar_for

CELERY = [sys.executable, "-m", "celery", "--quiet", "-A", "celery_app"]
FLOWER_USER = "admin"
WORKER_GRACE_SECONDS = 30
IO_THREADS = 8
BROKER_TIMEOUT = "PICTOR_BROKER_TIMEOUT_SECONDS"
# Celery warns root at length; whoever runs a container as root has decided so.
ROOT_WARNING = "ignore:You're running the worker with superuser privileges"


def web_spec(*, port: int) -> ChildSpec:
    """The web service; ready when it says so itself."""
    options = {
        "host": settings.HOST,
        "port": str(port),
        "lifespan": "off",
        "timeout-graceful-shutdown": "5",  # else an open event stream keeps it from ever stopping
        "log-config": "deploy/uvicorn-logging.yaml",
        "log-level": "warning",
        "workers": str(settings.WEB_PROCESSES),
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ChildSpec(
        name="web",
        argv=[sys.executable, "-m", "uvicorn", "project.asgi:application", "--no-access-log", *arguments],
        watch=partial(watch_web, local_url(port)),
        folder=settings.BASE_DIR,
        # A request should not wait for a dead broker as long as a worker may: one that falls silent costs the first
        # request three of these, then it is left alone for a while. What the operator has set counts.
        env={} if BROKER_TIMEOUT in os.environ else {BROKER_TIMEOUT: "0.9"},
    )


def device_specs(devices: list[DeviceSlot]) -> tuple[list[ChildSpec], list[ChildSpec]]:
    """The model servers that start before, and one Celery worker per device, pinned to it."""
    cpu_workers = sum(device.kind == "cpu" for device in devices)
    servers, workers = [], []
    for device in devices:
        env = device_env(device, cpu_workers=cpu_workers)
        sidecar = sidecar_for(device, env=env)
        if sidecar is not None:
            servers.append(sidecar.spec())
        workers.append(worker_spec(device, env=env | (sidecar.worker_env if sidecar is not None else {})))
    return servers, workers


def device_env(device: DeviceSlot, *, cpu_workers: int) -> dict[str, str]:
    """What pins a process to its device, one of `cpu_workers` that share the cores."""
    env = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # CUDA's own order is by speed: not the one that we count in
        "CUDA_VISIBLE_DEVICES": str(device.index) if device.kind == "gpu" else "",
    }
    return env | (openmp_env(workers=cpu_workers) if device.kind == "cpu" else {})


def worker_spec(device: DeviceSlot, *, env: dict[str, str]) -> ChildSpec:
    """The worker of one device; ready when it has written its start into its row."""
    host = local_host()
    queue = device_queue(host=host, label=device.label)
    slots = settings.GPU_SLOTS if device.kind == "gpu" else settings.CPU_SLOTS
    options = [*WORKER_OPTIONS, f"--concurrency={slots}"]
    return ChildSpec(
        name=f"worker {device.label}",
        argv=[*CELERY, "worker", "--hostname", f"{device.label}@{host}", "--queues", queue, *options],
        watch=partial(watch_worker, host, device.label),
        env=env | {"PICTOR_DEVICE": device.label, "PYTHONWARNINGS": ROOT_WARNING},
        folder=settings.BASE_DIR,
        grace_seconds=WORKER_GRACE_SECONDS,
        noise=("worker: Warm shutdown",),
    )


def io_spec() -> ChildSpec:
    """The Celery worker that sends webhooks: few threads, no device."""
    options = [*WORKER_OPTIONS, f"--concurrency={IO_THREADS}"]
    return ChildSpec(
        name="io",
        argv=[*CELERY, "worker", "--hostname", f"io@{local_host()}", "--queues", IO_QUEUE, *options],
        env={"PYTHONWARNINGS": ROOT_WARNING},
        folder=settings.BASE_DIR,
        grace_seconds=WORKER_GRACE_SECONDS,
        noise=("worker: Warm shutdown",),
    )


def housekeeper_spec() -> ChildSpec:
    """The process that repairs what others leave behind."""
    return ChildSpec(name="housekeeper", argv=[sys.executable, "manage.py", "housekeeper"], folder=settings.BASE_DIR)


def flower_spec() -> ChildSpec:
    """Flower, for this machine alone and behind a password that its command line does not show."""
    password = read_or_create(settings.CREDENTIALS_DIR / "flower_password")
    address = ["--address=127.0.0.1", f"--port={settings.FLOWER_PORT}"]
    return ChildSpec(
        name="flower",
        argv=[*CELERY, "flower", *address],
        watch=partial(watch_port, settings.FLOWER_PORT),
        folder=settings.BASE_DIR,
        # Its warnings are all about workers that do not answer yet, or no longer.
        env={"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}", "PICTOR_LOG_LEVEL": "ERROR"},
    )


async def watch_web(url: str) -> ReadyCheck:
    """Asks the service's own readiness page."""

    async def is_ready() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                return (await client.get(f"{url}/health/ready", headers=host_headers())).is_success
        except httpx.HTTPError:
            return False

    return is_ready


async def watch_port(port: int) -> ReadyCheck:
    """Asks whether something accepts connections on a port of this machine."""

    async def is_open() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return is_open


async def watch_worker(host: str, label: str) -> ReadyCheck:
    """Asks whether the start time in the worker's row has changed: no two clocks need to agree for that."""
    before = await asyncio.to_thread(read_started_at, host, label)

    async def has_started() -> bool:
        return await asyncio.to_thread(read_started_at, host, label) not in (None, before)

    return has_started


def read_started_at(host: str, label: str) -> datetime | None:
    """When the device's worker started last, None if never or if the database does not answer."""
    try:
        return Device.objects.filter(host=host, label=label).values_list("started_at", flat=True).first()
    except Error:
        return None
    finally:
        connection.close()
