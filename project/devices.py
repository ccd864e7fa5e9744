"""The devices of this machine that get a worker each: its NVIDIA GPUs, or shares of its CPU."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pynvml

OPENMP_WAITING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}


class UnknownDevice(Exception):
    """`--devices` or PICTOR_DEVICES names something that this machine does not have, or nothing at all."""


@dataclass(frozen=True)
class DeviceSlot:
    """One device by its kind (`gpu` or `cpu`) and its number; GPUs are numbered as nvidia-smi does."""

    kind: str
    index: int

    @property
    def label(self) -> str:
        """`gpu0`, `cpu1`: the name in device rows, queues and Celery's node names."""
        return f"{self.kind}{self.index}"


def names(devices: list[DeviceSlot]) -> str:
    """`gpu0, gpu1`."""
    return ", ".join(device.label for device in devices)


def count_gpus() -> int:
    """How many NVIDIA GPUs the driver reports; 0 where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def detect_devices(spec: str, *, count_gpus: Callable[[], int] = count_gpus) -> list[DeviceSlot]:
    """The devices that `spec` means: `auto` (all GPUs, else one CPU worker), `cpu:2`, or GPUs as in `0,1`.

    `auto` respects a CUDA_VISIBLE_DEVICES that is already set to numbers. Raises `UnknownDevice`.
    """
    spec = spec.replace(" ", "")
    if spec == "auto":
        return automatic_devices(count_gpus())
    if match := re.fullmatch(r"cpu:([1-9]\d{0,2})", spec):
        return [DeviceSlot("cpu", index) for index in range(int(match[1]))]
    if re.fullmatch(r"\d+(,\d+)*", spec):
        return chosen_gpus([int(number) for number in spec.split(",")], available=count_gpus())
    raise UnknownDevice(
        f"{spec!r} names no devices. Write auto, cpu:2 (two workers on the CPU) or GPU numbers as in 0,1."
    )


def automatic_devices(gpus: int) -> list[DeviceSlot]:
    """All GPUs that this process may see, or one CPU worker where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = list(range(gpus))
    if visible is not None and re.fullmatch(r"(\d+(,\d+)*)?", visible):
        allowed = {int(number) for number in visible.split(",") if number}
        numbers = [number for number in numbers if number in allowed]
    return [DeviceSlot("gpu", number) for number in numbers] or [DeviceSlot("cpu", 0)]


def chosen_gpus(numbers: list[int], *, available: int) -> list[DeviceSlot]:
    """The GPUs with these numbers; each must exist and be named once."""
    if len(set(numbers)) < len(numbers):
        raise UnknownDevice("A GPU is named twice. Name each GPU once: a worker needs one of its own.")
    missing = [number for number in numbers if number >= available]
    if not missing:
        return [DeviceSlot("gpu", number) for number in numbers]
    if available == 0:
        raise UnknownDevice(f"There is no GPU {missing[0]}: this machine shows no NVIDIA GPU. Use cpu:1, or auto.")
    raise UnknownDevice(
        f"There is no GPU {missing[0]}. This machine has {available}, numbered from 0; nvidia-smi lists them."
    )


def openmp_env(*, workers: int) -> dict[str, str]:
    """What makes each of so many processes on the CPU compute with its share of the cores.

    GNU's OpenMP, which PyTorch's packages for Linux bring along, gives every thread that computes threads of its own,
    and the engine and each generation compute. Once all of them are more than the cores, they spin for a microsecond
    only before they sleep, and a forward, which is thousands of short parts, waits for them to wake: on 2 cores a
    third of its time. The engine keeps other threads from having any where it can; for the rest, such as models that
    are not shared, ACTIVE makes it ten microseconds. The count keeps it at the usual 3 ms, not minutes, while they are
    few.
    """
    env = {"OMP_NUM_THREADS": str(max(1, count_cores() // workers))}
    if sys.platform == "linux" and OPENMP_WAITING.keys().isdisjoint(os.environ):
        env |= OPENMP_WAITING
    return env


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
