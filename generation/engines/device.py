"""The device under an engine: what it is, its memory, and what its errors mean."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch.nn import functional

from generation.engines.errors import DeviceLost, EngineError, OutOfMemory
from generation.engines.types import DeviceDescription

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_DEVICE_FAILURE = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error")

# While a CUDA graph is being recorded PyTorch gives no memory back, whoever asks for that.
while_nothing_is_recorded = threading.Lock()


def open_device(name: str) -> torch.device:
    """The device that torch knows by this name, "cpu" or "cuda:0"; raises DeviceLost if it is not there."""
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceLost(
            f"PyTorch {torch.__version__} sees no {name}. Check that nvidia-smi lists the GPU, that "
            "CUDA_VISIBLE_DEVICES does not hide it, and that this PyTorch was built for CUDA."
        )
    return device


def warm_up(device: torch.device) -> None:
    """Have PyTorch load its libraries of kernels beside whatever comes next: the first picture would wait for that."""
    if device.type == "cuda":
        threading.Thread(target=_use_libraries, args=(device,), name="warm-up", daemon=True).start()


def _use_libraries(device: torch.device) -> None:
    """A matrix product, a convolution and an attention: cuBLAS, and cuDNN with two of its parts."""
    with torch.no_grad(), suppress(RuntimeError):  # whatever it is, the first picture tells it
        rows = torch.ones(1, 64, 16, 16, dtype=torch.bfloat16, device=device)
        functional.conv2d(rows, torch.ones(64, 64, 3, 3, dtype=rows.dtype, device=device), padding=1)
        functional.linear(rows, torch.ones(64, 16, dtype=rows.dtype, device=device))
        query = rows.new_ones(1, 8, 256, 64)
        functional.scaled_dot_product_attention(query, query, query)


@contextmanager
def without_helpers(device: torch.device) -> Iterator[None]:
    """In the block this thread of a CPU computes by itself, while the engine's thread has all cores.

    OpenMP gives each thread that computes helpers of its own, for as long as it lives; once there are more of them than
    cores, those of the engine fall asleep between any two parts of a forward (`project.devices.openmp_env`).
    """
    set_helpers = getattr(ctypes.CDLL(None), "omp_set_num_threads", None) if device.type == "cpu" else None
    if set_helpers is None:
        yield
        return
    before = torch.get_num_threads()  # of this thread; PyTorch's own setter would change it for others too
    set_helpers(1)
    try:
        yield
    finally:
        set_helpers(before)


def describe(device: torch.device) -> DeviceDescription:
    """Its kind, the name its maker gave it, and its memory."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return DeviceDescription(kind="cuda", name=properties.name, memory_bytes=properties.total_memory)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return DeviceDescription(kind="cpu", name=_processor_name(), memory_bytes=memory_bytes)


def file_name(device: torch.device) -> str:
    """The kind of device as the name of a file."""
    return "-".join(re.findall(r"\w+", describe(device).name)) or device.type


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        with while_nothing_is_recorded:
            torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was launched on this thread's stream.

    To wait for the whole device is an error while another thread records, and ends what it records.
    """
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def start_measuring_memory(device: torch.device) -> None:
    """From now on peak_memory_bytes tells the highest use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most GPU memory that tensors took since start_measuring_memory; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def free_memory_bytes(device: torch.device) -> int | None:
    """The GPU memory that any process could take now; None on a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def fault(error: Exception, *, device: torch.device) -> EngineError | None:
    """What an exception says about the device, or None if it is about something else."""
    text = str(error)
    is_torch = isinstance(error, RuntimeError)
    if is_out_of_memory(error):
        return _out_of_memory(error, device=device)
    if isinstance(error, torch.AcceleratorError) or (is_torch and any(sign in text for sign in _DEVICE_FAILURE)):
        first_line = text.partition("\n")[0]
        return DeviceLost(f"{device} has failed and needs a fresh process: {first_line}")
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether the exception says that memory ran out, the device's or the machine's."""
    is_torch = isinstance(error, RuntimeError)
    return isinstance(error, MemoryError) or (is_torch and any(sign in str(error) for sign in _OUT_OF_MEMORY))


def _out_of_memory(error: Exception, *, device: torch.device) -> OutOfMemory:
    peak = peak_memory_bytes(device)
    traceback.clear_frames(error.__traceback__)  # their local variables hold the tensors of the failed call
    free_memory(device)
    return OutOfMemory(
        f"{device} ran out of memory. Ask for a smaller size or fewer images, or serve fewer models there.",
        peak_memory_bytes=peak,
    )
