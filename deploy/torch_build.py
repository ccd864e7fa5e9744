"""Which build of PyTorch to install: a GPU needs the CUDA libraries; other machines are spared 2.5 GB."""

import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from quiet_pip import InstallError, advice, last_words, start_pip

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WHEEL = re.compile(r"\s*(?:Processing|Downloading|Using cached) (.*torch-[^/]+\.whl)")

# What is downloaded, in megabytes, on Linux x86_64 with Python 3.11.
CPU_MEGABYTES = 190
CUDA_MEGABYTES = 530 + 2150  # PyTorch, and the CUDA libraries that it requires


class TorchBuild(NamedTuple):
    """What to ask pip for, at which index if not the usual one, how much that downloads, and why this one."""

    requirement: str
    index_url: str | None
    megabytes: int
    reason: str


def find_torch_build(python: Path, *, version: str) -> TorchBuild:
    """Ask this machine and pip's indexes what there is, and choose."""
    has_gpu = has_nvidia_gpu()
    default_wheel = find_wheel(python, f"torch=={version}", "--retries", "1")  # with 0, pip hides why it fails
    cpu_wheel = None
    if not has_gpu and not is_cpu_build(default_wheel):
        with suppress(InstallError):
            options = ["--index-url", CPU_INDEX, "--timeout", "4", "--retries", "0"]
            cpu_wheel = find_wheel(python, f"torch=={version}+cpu", *options)
    return choose(version, has_gpu=has_gpu, default_wheel=default_wheel, cpu_wheel=cpu_wheel)


def choose(version: str, *, has_gpu: bool, default_wheel: str, cpu_wheel: str | None) -> TorchBuild:
    """Choose between what pip takes by default and what PyTorch's own index has for CPUs, if it answers."""
    plain = f"torch=={version}"
    if is_cpu_build(default_wheel):
        megabytes = 0 if is_local(default_wheel) else CPU_MEGABYTES
        unused = ", which leaves the NVIDIA GPU unused" if has_gpu else ""
        return TorchBuild(plain, None, megabytes, f"PyTorch comes as the CPU build that pip finds here{unused}.")
    if has_gpu:
        return TorchBuild(plain, None, CUDA_MEGABYTES, "PyTorch comes with CUDA, for the NVIDIA GPU.")
    if cpu_wheel:
        reason = "PyTorch comes as its CPU build. Once there is an NVIDIA GPU, remove .venv and try again."
        return TorchBuild(f"{plain}+cpu", CPU_INDEX, CPU_MEGABYTES, reason)
    reason = f"There is no NVIDIA GPU, but {CPU_INDEX} cannot be reached: the large build with CUDA comes."
    return TorchBuild(plain, None, CUDA_MEGABYTES, reason)


def is_cpu_build(wheel: str) -> bool:
    """Whether a wheel is for CPUs: its name says so, it is for a Mac, or it was put on this machine."""
    return "+cpu" in wheel or "%2Bcpu" in wheel or "macosx" in wheel or is_local(wheel)


def is_local(wheel: str) -> bool:
    """Whether a wheel is a file of this machine rather than a download."""
    return wheel.startswith((".", "/"))


def find_wheel(python: Path, requirement: str, *options: str) -> str:
    """The name, address or path of the wheel that pip would take; raises `InstallError` if there is none."""
    command = ["install", "--dry-run", "--no-deps", "--ignore-installed", *options, requirement]
    lines = []
    with start_pip(python, command) as process:
        for line in process.stdout or ():
            lines.append(line)
            if match := WHEEL.match(line):
                process.send_signal(signal.SIGINT)  # some indexes would have it download the whole wheel for a dry run
                return match[1]
    raise InstallError(f"{advice(lines)}\n\n{last_words(lines)}")


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver shows a GPU."""
    with suppress(OSError):
        if any(Path("/proc/driver/nvidia/gpus").iterdir()):
            return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and b"GPU" in subprocess.run([tool, "-L"], capture_output=True).stdout
