"""Which host and device this process belongs to."""

import os
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """The device a worker process is pinned to, by its label: `gpu0` or `cpu1`."""

    label: str
    kind: str
    index: int

    @property
    def torch_name(self) -> str:
        """The name torch knows it by: pinning leaves one GPU visible, and that is always `cuda:0`."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def local_host() -> str:
    """This machine's name as it appears in device rows, queues and Celery's node names."""
    return socket.gethostname()


def local_device() -> LocalDevice:
    """The device named by `PICTOR_DEVICE`, which `manage.py workers` sets for each worker it starts.

    Raises ValueError when the variable is missing or is neither `gpu<n>` nor `cpu<n>`.
    """
    label = os.environ.get("PICTOR_DEVICE", "")
    match = re.fullmatch(r"(gpu|cpu)(\d+)", label)
    if match is None:
        raise ValueError(f"PICTOR_DEVICE={label!r} names no device. Start workers with `manage.py workers`.")
    return LocalDevice(label=label, kind="cuda" if match[1] == "gpu" else "cpu", index=int(match[2]))
