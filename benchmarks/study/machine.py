"""What a run was measured on: enough to judge the figures by, and nothing that names the machine."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("django", "celery", "redis", "uvicorn", "numpy", "torch", "diffusers")


def describe() -> dict[str, object]:
    """The machine, the software and the date."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": system(),
        "python": platform.python_version(),
        "packages": dict(packages()),
        "nginx": said_by("nginx", "-v"),
    }


def packages() -> Iterator[tuple[str, str]]:
    """Those that are there, with their versions."""
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def processor() -> str:
    """As the kernel calls it, or its architecture."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def system() -> str:
    """The distribution, or the kernel."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def said_by(program: str, option: str) -> str:
    """What a program says of its version; empty if it is not there."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        return ""
    result = subprocess.run([path, option], capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip().rpartition(" ")[2].rpartition("/")[2]
